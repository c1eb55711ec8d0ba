"""One of our roles as a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[1]
STOP_SECONDS: Final = 40.0
TAIL_BYTES: Final = 1_500


class RoleDied(Exception):
    """A role ended on its own, or did not stop in order; the message holds the end of its log."""


class RoleProcess:
    """``python -m module`` in ``folder``, whose ``.env``, unlike the checkout's, is nobody's."""

    def __init__(self, name: str, module: str, *, environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**environment, "PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raises RoleDied."""
        if (code := self._process.poll()) is not None:
            raise RoleDied(f"{self.name} ended with {code}:\n{self._tail()}")

    def stop(self) -> None:
        """In order. Raises RoleDied when it was dead already, or does not stop within ``STOP_SECONDS``."""
        self.check()
        self._process.terminate()
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RoleDied(f"{self.name} did not stop within {STOP_SECONDS:g} s:\n{self._tail()}") from None
        if code != 0:
            raise RoleDied(f"{self.name} stopped with {code}:\n{self._tail()}")

    def kill(self) -> None:
        """At once, with whatever it started. Harmless when it is dead."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    def _tail(self) -> str:
        return self._log.read_bytes()[-TAIL_BYTES:].decode(errors="replace")
