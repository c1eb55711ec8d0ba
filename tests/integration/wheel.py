"""The built wheel, installed into empty virtual environments with the versions of requirements.txt."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aftercommit.core.settings import Settings
from tests.integration.conftest import ROOT

INSTALL_SECONDS = 300


def build(folder: Path) -> Path:
    """Build the wheel of this checkout into ``folder``."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = folder.glob("*.whl")
    return wheel


def outside(**settings: str) -> dict[str, str]:
    """The environment of a process that knows nothing of this checkout or its settings, but ``settings``."""
    kept = (
        "AFTERCOMMIT_TEST",
        "PATH",
        "HOME",
        "LANG",
        "TMPDIR",
        "SSL_",
        "PIP_",
        "UV_",
        "HTTP",
        "NO_PROXY",
        "REQUESTS_",
    )
    return {name: value for name, value in os.environ.items() if name.upper().startswith(kept)} | settings


def environment_of(settings: Settings) -> dict[str, str]:
    """The settings that a process of its own needs to join the installation under test."""
    return {
        "POSTGRES_HOST": settings.postgres_host,
        "POSTGRES_PORT": str(settings.postgres_port),
        "POSTGRES_USER": settings.postgres_user,
        "POSTGRES_PASSWORD": settings.postgres_password,
        "POSTGRES_DB": settings.postgres_db,
        "RABBITMQ_URL": settings.rabbitmq_url,
    }


def _installer(python: str) -> list[str]:
    """Installs into the environment of ``python``: uv where it is, as in the Makefile, else this environment's pip."""
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--python", python]
    return [sys.executable, "-m", "pip", "--python", python, "install", "--no-compile"]


class Environment:
    """A virtual environment in ``folder`` with ``aftercommit[extra]`` and nothing else."""

    def __init__(self, folder: Path, wheel: Path, extra: str = "") -> None:
        self.folder = folder
        self._run([sys.executable, "-m", "venv", "--without-pip", str(folder)], timeout=60)
        text = (ROOT / "requirements-dev.txt").read_text()  # has what requirements.txt has, too
        pins = folder / "pins.txt"
        pins.write_text("\n".join(re.findall(r"^[\w.-]+==[^\\\n]+", text, re.MULTILINE)))
        wanted = f"{wheel}[{extra}]" if extra else str(wheel)
        command = [*_installer(self.path("python")), "--quiet", "--constraint", str(pins), wanted]
        self._run(command, timeout=INSTALL_SECONDS)

    def path(self, script: str) -> str:
        return str(self.folder / "bin" / script)

    def run(self, script: str, *arguments: str, timeout: float = 60, **options: Any) -> str:
        """Stdout of a script of the environment, which must exit with 0."""
        return self._run([self.path(script), *arguments], timeout=timeout, **options).stdout

    def refusal(self, script: str, *arguments: str) -> str:
        """Stderr of a script of the environment, which must exit with 2."""
        done = self._run([self.path(script), *arguments], timeout=60, status=2)
        assert done.stdout == ""
        return done.stderr

    def packages(self) -> set[str]:
        names = "import importlib.metadata as m; print(*(each.name for each in m.distributions()))"
        return {name.lower().replace("_", "-") for name in self.run("python", "-c", names).split()}

    def _run(
        self,
        command: list[str],
        *,
        timeout: float,
        status: int = 0,
        cwd: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=cwd or self.folder.parent,
            env=outside(**(settings or {})),
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == status, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done


class Running:
    """A command of the environment in the background, with its output in ``log``."""

    def __init__(self, command: list[str], *, folder: Path, log: Path, settings: Mapping[str, str]) -> None:
        self.log = log
        with log.open("w") as output:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=outside(**settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        return self.log.read_text()

    def until(self, condition: Callable[[], object], *, seconds: float = 60) -> None:
        """Wait until ``condition`` holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self._process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)  # between two looks: another process's file calls nobody

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """As Ctrl-C does, or another signal; returns the exit status."""
        self._process.send_signal(number)
        return self._process.wait(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def call(url: str, body: object | None = None) -> Any:
    """The JSON that a POST of ``body``, or a GET, answers with."""
    request = urllib.request.Request(
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as response:
        return json.load(response)
