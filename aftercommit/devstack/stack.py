"""One whole Aftercommit on this machine: the servers, the migrated database, and the roles."""

import fcntl
import json
import os
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aftercommit.devstack.failure import DevstackError
from aftercommit.devstack.ports import HOST, free_port, is_free
from aftercommit.devstack.role_process import RoleProcess
from aftercommit.devstack.roles import roles
from aftercommit.devstack.servers import Servers
from aftercommit.devstack.supervisor import Sink, Supervisor

PREFERRED_API_PORT = 8000
GRACE_SECONDS = 30.0
MIGRATION = "aftercommit.server.migrate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What a stack is for: a folder, the settings of its roles, and where their handlers are."""

    folder: Path
    settings: Mapping[str, str]
    modules: Callable[[], list[str]]
    """The modules with handlers, asked for at each start of the worker."""
    api_port: int | None = None
    """None: 8000 where it is free, else another."""


class Stack:
    """Starts all that it can at once, stops in order, and holds a lock so that no second one shares its data."""

    def __init__(self, project: Project, *, sink: Sink) -> None:
        self.data = data_folder(project.folder)
        self.servers = Servers(self.data, management=False)
        self._project = project
        self._sink = sink
        self._lock: IO[str] | None = None
        self._supervisors: list[Supervisor] = []
        self._api_host = os.environ.get("API_HOST") or HOST
        self._api_port = 0

    @property
    def url(self) -> str:
        return f"http://{self._api_host}:{self._api_port}"

    def start(self) -> None:
        """Returns with the roles started; `ready()` tells when they serve. `stop()` also undoes a failed start."""
        self._lock = hold(self.data)
        self._refuse_taken_port()
        folder = self._project.folder
        migration = RoleProcess(MIGRATION, folder=folder)
        started = roles(api_address=lambda: (self._api_host, self._api_port), modules=self._project.modules)
        self._supervisors = [Supervisor(role, folder=folder, sink=self._sink) for role in started]
        for supervisor in self._supervisors:
            supervisor.start()  # each imports its code while the servers start
        try:
            self.servers.start(on_postgres=lambda: self._migrate(migration))
        finally:
            migration.discard()
        # As late as can be: until the API listens, another program may take it.
        self._api_port = free_port(self._project.api_port or PREFERRED_API_PORT)
        environment = {**self._project.settings, **self.servers.environment()}
        for supervisor in self._supervisors:
            supervisor.run(environment)

    def ready(self) -> bool:
        """Whether the API says that it, the database and the broker serve."""
        return fetch_status(f"{self.url}/readyz") == "ready"

    def reload(self) -> None:
        """Starts the roles anew that run the user's code."""
        for supervisor in self._supervisors:
            if supervisor.role.reloads:
                supervisor.restart()

    def stop(self, impatient: Callable[[], bool] = lambda: False) -> None:
        """Drains the roles for up to 30 s (less once `impatient()`), then stops the servers."""
        if self._lock is None:
            return
        self._stop_roles(impatient)
        self.servers.stop()
        self._lock.close()
        self._lock = None

    def _refuse_taken_port(self) -> None:
        wanted = self._project.api_port
        if wanted is not None and not is_free(wanted):
            raise DevstackError(f"Port {wanted} is in use: give another one with --port, or none.")

    def _stop_roles(self, impatient: Callable[[], bool]) -> None:
        for supervisor in self._supervisors:
            supervisor.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for supervisor in self._supervisors:
            while not supervisor.wait(0.1):
                if time.monotonic() > deadline or impatient():
                    self._sink(supervisor.role.name, "did not stop: killed")
                    supervisor.kill()
                    break
        self._supervisors.clear()

    def _migrate(self, migration: RoleProcess) -> None:
        migration.run({**self._project.settings, **self.servers.postgres.environment()})
        output = migration.output.read()
        if migration.wait() != 0:
            raise DevstackError(f"The migration failed:\n{output}")


def data_folder(folder: Path) -> Path:
    """Where the servers of a project's folder keep their data and logs."""
    return folder / ".aftercommit"


def hold(folder: Path) -> IO[str]:
    """The lock of a folder, free again when the returned file is closed or this process ends, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".gitignore").write_text("*\n")
        file = (folder / "lock").open("a+")
    except OSError as error:
        raise DevstackError(f"{folder} is for the servers' data and cannot be written: {error.strerror}.") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise DevstackError(f"{folder} is in use by process {holder} (`aftercommit dev`): stop it first.") from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def fetch_status(url: str) -> str | None:
    """`status` of the JSON that GET answers with 200, else None; asked without the environment's proxies."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            return str(json.load(response)["status"])
    except (OSError, ValueError, KeyError):
        return None
