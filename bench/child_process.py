"""A process that is measured: one of our roles, or a peer's worker."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[1]
STOP_SECONDS: Final = 40.0
TAIL_BYTES: Final = 1_500


class Died(Exception):
    """A process ended on its own, or did not stop in order; the message holds the end of its log."""


class ChildProcess:
    """``command`` in ``folder``, whose ``.env``, unlike the checkout's, is nobody's, with the modules of ``checkout``.
    Modules in ``instead`` stand before all others of their name."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        instead: Path | None = None,
        checkout: Path = CHECKOUT,
    ) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        path = os.pathsep.join(str(folder) for folder in (instead, checkout) if folder is not None)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**environment, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raises Died."""
        if (code := self._process.poll()) is not None:
            raise Died(f"{self.name} ended with {code}:\n{self._tail()}")

    def wait(self, seconds: float) -> None:
        """For it to end by itself. Raises Died when it failed, or took longer."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Died(f"{self.name} did not end within {seconds:g} s:\n{self._tail()}") from None
        if code != 0:
            raise Died(f"{self.name} ended with {code}:\n{self._tail()}")

    def stop(self) -> None:
        """In order. Raises Died when it was dead already, or does not stop within ``STOP_SECONDS``."""
        self.check()
        self._process.terminate()
        self.wait(STOP_SECONDS)

    def kill(self) -> None:
        """At once, with whatever it started. Harmless when it is dead."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)

    def _tail(self) -> str:
        return self._log.read_bytes()[-TAIL_BYTES:].decode(errors="replace")
