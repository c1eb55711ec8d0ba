"""One whole Aftercommit on this machine: the servers, the migrated database, and the roles."""

import fcntl
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from aftercommit.devstack import processes
from aftercommit.devstack.failure import DevstackError
from aftercommit.devstack.ports import HOST, free_port
from aftercommit.devstack.roles import roles
from aftercommit.devstack.servers import Servers
from aftercommit.devstack.supervisor import Sink, Supervisor, pid_file

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = CHECKOUT / ".devstack"

PREFERRED_API_PORT = 8000
GRACE_SECONDS = 30.0


class Stack:
    """Starts in order, stops in the reverse order, and holds a lock so that no second one shares its folder."""

    def __init__(self, folder: Path, *, settings: Mapping[str, str], say: Callable[[str], None], sink: Sink) -> None:
        self.folder = folder
        self.servers = Servers(folder)
        self._settings = settings
        self._say = say
        self._sink = sink
        self._lock: IO[str] | None = None
        self._supervisors: list[Supervisor] = []
        self._api_host = os.environ.get("API_HOST") or HOST
        self._api_port = int(os.environ.get("API_PORT") or 0)

    @property
    def url(self) -> str:
        return f"http://{self._api_host}:{self._api_port}"

    def start(self) -> None:
        """Returns with the roles started; `ready()` tells when they serve. `stop()` also undoes a failed start."""
        self._lock = hold(self.folder)
        stop_leftover_roles(self.folder, self._say)
        self._api_port = self._api_port or free_port(PREFERRED_API_PORT)  # now: a leftover API may have held it
        self._say("starting PostgreSQL and RabbitMQ")
        self.servers.start()
        environment = {**os.environ, **self._settings, **self.servers.environment()}
        self._migrate(environment)
        for role in roles(api_host=self._api_host, api_port=self._api_port):
            supervisor = Supervisor(
                role, environment=environment, checkout=CHECKOUT, folder=self.folder, sink=self._sink
            )
            self._supervisors.append(supervisor)
            supervisor.start()

    def ready(self) -> bool:
        """Whether the API says that it, the database and the broker serve."""
        return answers_ok(f"{self.url}/readyz")

    def stop(self, impatient: Callable[[], bool] = lambda: False) -> None:
        """Drains the roles for up to 30 s (less once `impatient()`), then stops the servers."""
        if self._lock is None:
            return
        self._stop_roles(impatient)
        self._say("stopping PostgreSQL and RabbitMQ")
        self.servers.stop()
        self._lock.close()
        self._lock = None

    def _stop_roles(self, impatient: Callable[[], bool]) -> None:
        for supervisor in self._supervisors:
            supervisor.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for supervisor in self._supervisors:
            while not supervisor.wait(0.1):
                if time.monotonic() > deadline or impatient():
                    self._say(f"{supervisor.role.name} did not stop: killing it")
                    supervisor.kill()
                    break
        self._supervisors.clear()

    def _migrate(self, environment: Mapping[str, str]) -> None:
        self._say("migrating the database")
        done = subprocess.run(
            [sys.executable, "-m", "alembic", "upgrade", "head"],
            check=False,
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            raise DevstackError(f"The migration failed:\n{done.stdout}")


def hold(folder: Path) -> IO[str]:
    """The lock of a folder, free again when the returned file is closed or this process ends, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise DevstackError(
            f"{folder} is in use by process {holder} (`make up` or `make demo`): stop it first."
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def stop_leftover_roles(folder: Path, say: Callable[[str], None]) -> None:
    """Ends the roles of a supervisor that was killed: nobody reads their logs any more."""
    for role in roles(api_host=HOST, api_port=0):
        if processes.stop_recorded(pid_file(folder, role), role.marker, GRACE_SECONDS):
            say(f"stopped {role.name}, left over from an earlier run")


def answers_ok(url: str) -> bool:
    """Whether GET answers 200; asked without the environment's proxies."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            return bool(response.status == 200)
    except (OSError, ValueError):
        return False
