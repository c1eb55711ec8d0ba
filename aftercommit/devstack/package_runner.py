"""Runs a package tool so that neither Ctrl-C nor our own death tears it apart.

The tool is in a process group of its own and writes to a file, so a signal to our group does not reach it and it can
end its work when we are gone. We copy the file to stderr. An interruption is passed on to the tool alone, as SIGINT:
apt-get gives a download up at once, but lets dpkg finish.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import IO, Any, Self

from aftercommit.devstack.failure import DevstackError

_POLL_SECONDS = 0.1
# English messages, no questions.
_ENVIRONMENT = ("env", "LC_ALL=C.UTF-8", "LANGUAGE=", "DEBIAN_FRONTEND=noninteractive")


@dataclass(frozen=True, slots=True)
class Finished:
    succeeded: bool
    output: str


class PackageRunner:
    """As a context manager it takes SIGINT, SIGTERM and SIGHUP; at its end they get their former handlers back and an
    interruption that came meanwhile is delivered to them.

    `prefix` is put before each command: `sudo -n` or nothing.
    """

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        self._prefix = (*prefix, *_ENVIRONMENT)
        self._with_sudo = bool(prefix)
        self._interruption: int | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only there may handlers be set
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        if self._interruption is not None:
            signal.raise_signal(self._interruption)

    def run(self, *command: str) -> Finished:
        """Runs a command to its end; raises `DevstackError` when it was interrupted, or something was before it."""
        if self._interruption is None:
            finished = self.run_anyway(*command)
        if self._interruption is not None:
            raise DevstackError("The installation was interrupted.")
        return finished

    def run_anyway(self, *command: str) -> Finished:
        """Also after an interruption: for what must be cleaned up."""
        told = self._interruption is not None
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                [*self._prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
                preexec_fn=_hear_interrupts,
            )
            shown = 0
            while process.poll() is None:
                shown += _show_from(output, shown)
                if self._interruption is not None and not told:
                    _show(b"Interrupted: the package tool ends first, so that nothing stays half installed.\n")
                    self._interrupt(process)
                    told = True
                time.sleep(_POLL_SECONDS)  # a growing file calls nobody
            _show_from(output, shown)
            output.seek(0)
            return Finished(process.returncode == 0, output.read().decode(errors="replace"))

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self._interruption = number

    def _interrupt(self, process: subprocess.Popen[bytes]) -> None:
        if self._with_sudo:
            subprocess.run([*self._prefix, "kill", "-INT", str(process.pid)], check=False, capture_output=True)
        else:
            process.send_signal(signal.SIGINT)


def _hear_interrupts() -> None:
    """A shell starts what runs in its background with SIGINT ignored, and a child inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def sudo_prefix() -> tuple[str, ...] | None:
    """What makes a command run as root without a question; None where this user may not."""
    if os.geteuid() == 0:
        return ()
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], check=False, capture_output=True).returncode == 0:
        return (sudo, "-n")
    return None


def _show_from(output: IO[bytes], position: int) -> int:
    """Shows what was written after `position`, without moving the place where the command writes; returns how much."""
    text = os.pread(output.fileno(), os.fstat(output.fileno()).st_size - position, position)
    _show(text)
    return len(text)


def _show(text: bytes) -> None:
    with suppress(OSError):  # the terminal may be gone
        sys.stderr.write(text.decode(errors="replace"))
        sys.stderr.flush()
