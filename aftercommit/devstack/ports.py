"""Free TCP ports on the loopback address."""

import random
import socket

HOST = "127.0.0.1"

# Below the ranges that Linux (32768+) and macOS (49152+) give to outgoing connections. A client that reconnects
# to a port inside that range can, on loopback, connect to itself and so keep the restarted server from binding.
_CANDIDATES = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now; connections of its predecessor in TIME_WAIT do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(preferred: int | None = None, taken: frozenset[int] = frozenset()) -> int:
    """`preferred` where it is free, else a random free port that is not in `taken`."""
    if preferred is not None and preferred not in taken and is_free(preferred):
        return preferred
    while True:
        port = random.choice(_CANDIDATES)
        if port not in taken and is_free(port):
            return port


def accepts(port: int) -> bool:
    """Whether a server listens on `port`."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def greets_amqp(port: int) -> bool:
    """Whether an AMQP 0-9-1 server answers the protocol header with a method frame."""
    try:
        with socket.create_connection((HOST, port), timeout=2) as connection:
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return connection.recv(1) == b"\x01"
    except OSError:
        return False
