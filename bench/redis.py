"""A private redis-server on the loopback address, installed where it is missing, with its defaults."""

import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from aftercommit.devstack.install import Package, install_missing
from aftercommit.devstack.ports import HOST, accepts, free_port
from aftercommit.devstack.processes import wait_until
from bench.child_process import Died

PACKAGE: Final = Package(
    "Redis", apt="redis-server", apt_parts=("redis",), brew="redis", find=lambda: shutil.which("redis-server")
)
START_SECONDS: Final = 10.0
STOP_SECONDS: Final = 10.0


class RedisServer:
    """As a context manager: begins empty, its snapshots in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self._port}/0"

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        install_missing((PACKAGE,))
        command = ["redis-server", "--bind", HOST, "--port", str(self._port), "--dir", str(self._folder)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if not wait_until(lambda: accepts(self._port), START_SECONDS):
            self._process.kill()
            raise Died("redis-server did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def version() -> str:
    """Of what is installed; empty when nothing is."""
    if shutil.which("redis-server") is None:
        return ""
    shown = subprocess.run(["redis-server", "--version"], check=False, capture_output=True, text=True).stdout
    return next((word.removeprefix("v=") for word in shown.split() if word.startswith("v=")), "")
