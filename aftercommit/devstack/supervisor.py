"""Keeps one role running: starts it, passes its log lines on, starts it again when it dies, stops it."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from aftercommit.devstack.roles import Role

Sink = Callable[[str, str], None]
"""Takes the name of a role and one line of its log, from any thread."""

FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 15.0
HEALTHY_AFTER_SECONDS = 30.0


class Supervisor:
    """Of one role. The role lives in a session of its own, so Ctrl-C reaches only us."""

    def __init__(self, role: Role, *, environment: Mapping[str, str], checkout: Path, folder: Path, sink: Sink) -> None:
        self.role = role
        self._environment = {**environment, **role.environment, "PYTHONUNBUFFERED": "1"}
        self._checkout = checkout
        self._pid_file = pid_file(folder, role)
        self._sink = sink
        self._guard = threading.Lock()  # between starting the process anew and stopping it for good
        self._stopping = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._keep_running, name=role.name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def terminate(self) -> None:
        """Asks it to drain and exit; returns at once. It is not started again."""
        with self._guard:
            self._stopping.set()
            if self._process is not None and self._process.poll() is None:
                self._process.terminate()

    def wait(self, timeout_seconds: float) -> bool:
        """Whether it ended in time."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def kill(self) -> None:
        """The role and the processes that it started."""
        if self._process is not None:
            kill_group(self._process.pid)
        self._thread.join(5)

    def _keep_running(self) -> None:
        backoff = FIRST_BACKOFF_SECONDS
        while (process := self._spawn()) is not None:
            started = time.monotonic()
            code = self._watch(process)
            if self._stopping.is_set():
                return
            if time.monotonic() - started > HEALTHY_AFTER_SECONDS:
                backoff = FIRST_BACKOFF_SECONDS
            self._sink(self.role.name, f"died unexpectedly with exit code {code}; starts again in {backoff:.0f} s")
            self._stopping.wait(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)

    def _spawn(self) -> subprocess.Popen[str] | None:
        with self._guard:
            if self._stopping.is_set():
                return None
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.role.module],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                cwd=self._checkout,
                env=self._environment,
                start_new_session=True,
            )
            self._pid_file.parent.mkdir(parents=True, exist_ok=True)
            self._pid_file.write_text(f"{self._process.pid}\n")
            return self._process

    def _watch(self, process: subprocess.Popen[str]) -> int:
        """Passes its lines on until it has exited; returns the exit code."""
        reader = threading.Thread(target=self._pass_on, args=(process,), daemon=True)
        reader.start()
        code = process.wait()
        kill_group(process.pid)  # what it left behind would also keep the pipe open
        reader.join(5)
        self._pid_file.unlink(missing_ok=True)
        return code

    def _pass_on(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self._sink(self.role.name, line.rstrip("\n"))


def pid_file(folder: Path, role: Role) -> Path:
    return folder / "run" / f"{role.name}.pid"


def kill_group(pid: int) -> None:
    """SIGKILL to all that is left of the session that `pid` leads."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
