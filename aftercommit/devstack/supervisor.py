"""Keeps one role running: starts it, passes its log lines on, starts it again when it died or its code changed."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from aftercommit.devstack.role_process import RoleProcess
from aftercommit.devstack.roles import Role

Sink = Callable[[str, str], None]
"""Takes the name of a role and one line of its log, from any thread."""

FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 15.0
HEALTHY_AFTER_SECONDS = 30.0
REFUSED = 2
"""The exit code of a role that cannot use a setting or a module of handlers."""


class Supervisor:
    """Of one role. Its process starts with `start()` and waits for `run()` before it does anything."""

    def __init__(self, role: Role, *, folder: Path, sink: Sink) -> None:
        self.role = role
        self._folder = folder
        self._sink = sink
        self._environment: Mapping[str, str] = {}
        self._guard = threading.Lock()  # between starting the process anew and stopping it for good
        self._running = threading.Event()
        self._stopping = threading.Event()
        self._changed = threading.Event()  # set by restart() and terminate(): no wait goes on
        self._process: RoleProcess | None = None
        self._thread = threading.Thread(target=self._keep_running, name=role.name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def run(self, environment: Mapping[str, str]) -> None:
        """The servers are there: `environment` says where."""
        self._environment = environment
        self._running.set()

    def restart(self) -> None:
        """Asks the process to drain and exit, and starts it anew; returns at once."""
        with self._guard:
            self._changed.set()
            if self._process is not None:
                self._process.terminate()

    def terminate(self) -> None:
        """Asks it to drain and exit; returns at once. It is not started again."""
        self._stopping.set()
        self.restart()
        self._running.set()

    def wait(self, timeout_seconds: float) -> bool:
        """Whether it ended in time."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def kill(self) -> None:
        """The role and the processes that it started."""
        if self._process is not None:
            self._process.kill()
        self._thread.join(5)

    def _keep_running(self) -> None:
        backoff = FIRST_BACKOFF_SECONDS
        while (process := self._spawn()) is not None:
            started = time.monotonic()
            code = self._watch(process)
            if self._changed.is_set() or time.monotonic() - started > HEALTHY_AFTER_SECONDS:
                backoff = FIRST_BACKOFF_SECONDS
            if not self._changed.is_set():
                if code == REFUSED and self.role.reloads:
                    self._sink(self.role.name, "waits for the next change")
                    self._changed.wait()
                else:
                    self._sink(self.role.name, f"died with exit code {code}; starts again in {backoff:.0f} s")
                    self._changed.wait(backoff)
                    backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)

    def _spawn(self) -> RoleProcess | None:
        with self._guard:
            if self._stopping.is_set():
                return None
            self._changed.clear()
            self._process = RoleProcess(self.role.module, folder=self._folder)
            return self._process

    def _watch(self, process: RoleProcess) -> int:
        """Lets it run and passes its lines on until it has exited; returns the exit code."""
        reader = threading.Thread(target=self._pass_on, args=(process,), daemon=True)
        reader.start()
        self._running.wait()
        process.run({**self._environment, **self.role.settings()})
        code = process.wait()
        reader.join(5)
        return code

    def _pass_on(self, process: RoleProcess) -> None:
        with process.output:
            for line in process.output:
                self._sink(self.role.name, line.rstrip("\n"))
