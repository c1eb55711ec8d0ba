"""PostgreSQL and RabbitMQ of a test run's own."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aftercommit.devstack.servers import Servers
from tests.integration.containers import ContainerServers
from tests.leftovers import without_leftovers


@contextmanager
def private_servers() -> Iterator[tuple[Servers, Path]]:
    """Started servers, and a folder for logs. Nothing of them stays, however the run ends."""
    folder = Path(tempfile.mkdtemp(prefix="aftercommit-test-"))
    # Run as root, Postgres becomes another user, who must get in.
    folder.chmod(0o755)
    with without_leftovers("devstack", str(folder)), Servers(folder, fsync=False) as servers:
        yield servers, folder


@contextmanager
def container_servers() -> Iterator[ContainerServers]:
    """Both in containers. Nothing of them stays, however the run ends."""
    with without_leftovers("containers", str(os.getpid())), ContainerServers() as servers:
        yield servers
