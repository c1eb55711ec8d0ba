"""A private PostgreSQL server on the loopback address."""

import json
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aftercommit.devstack import processes
from aftercommit.devstack.binaries import PostgresBinaries, postgres_binaries
from aftercommit.devstack.failure import DevstackError
from aftercommit.devstack.ports import HOST, free_port
from aftercommit.devstack.server_user import Account, make_folder, server_account, server_folder

NAME = "aftercommit"  # of the database, its superuser and the password alike

logger = logging.getLogger(__name__)


class PostgresServer:
    """One database cluster in `folder/postgres`, made at the first start.

    The port is kept for as long as it is free, so clients of a restarted server find it again. `fsync=False` is
    for tests: a crash of the server loses nothing, a crash of the machine may.
    """

    host = HOST

    def __init__(self, folder: Path, *, fsync: bool = True) -> None:
        self._wanted_folder = folder.resolve() / "postgres"
        self._fsync = fsync
        self._process: subprocess.Popen[bytes] | None = None
        self._binaries: PostgresBinaries | None = None
        self._account: Account

    @property
    def folder(self) -> Path:
        """Where data, log and state are: in the checkout, or outside when the server's user cannot reach it."""
        return server_folder(self._wanted_folder)

    @property
    def log_file(self) -> Path:
        return self.folder / "server.log"

    @property
    def port(self) -> int:
        port = self._recorded_port()
        if port is None:
            raise DevstackError("PostgreSQL has no port before its first start.")
        return port

    @property
    def url(self) -> str:
        return f"postgresql://{NAME}:{NAME}@{self.host}:{self.port}/{NAME}"

    @property
    def pid(self) -> int | None:
        """Of the postmaster, while it runs."""
        if self._process is not None:
            self._process.poll()  # reaps it
        pid = processes.read_pid(self._data / "postmaster.pid")
        return pid if processes.is_alive(pid, self._marker) else None

    @property
    def running(self) -> bool:
        return self.pid is not None

    def environment(self) -> dict[str, str]:
        """What the application's settings are called."""
        return {
            "POSTGRES_DB": NAME,
            "POSTGRES_USER": NAME,
            "POSTGRES_PASSWORD": NAME,
            "POSTGRES_HOST": self.host,
            "POSTGRES_PORT": str(self.port),
        }

    def start(self) -> None:
        """Returns once it accepts connections. A server that a crashed run left behind is taken over."""
        self._binaries = self._binaries or postgres_binaries()
        self._make_folder()
        with self._exclusive():
            if not self.running:
                self._make_cluster()
                self._launch(free_port(self._recorded_port()))
            self._wait_until_ready()

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back. Harmless when it is not running."""
        if not self.folder.exists():
            return
        with self._exclusive():
            if not self._signalled(signal.SIGINT, 30) and not self._signalled(signal.SIGQUIT, 10):
                raise DevstackError(f"PostgreSQL (pid {self.pid}) does not stop; see {self.log_file}")
            if self._process is not None:
                # It takes its pid file away before it ends.
                self._process.wait(10)

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        """The postmaster and all its children at once, as if the machine's power had gone."""
        with self._exclusive():
            if (pid := self.pid) is None:
                return
            processes.send(pid, signal.SIGSTOP)  # so that it starts no child unseen
            children = processes.children(pid)
            for each in (pid, *children):
                processes.send(each, signal.SIGKILL)
            processes.wait_until(lambda: not any(map(processes.command_line, children)) and not self.running, 10)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _marker(self) -> str:
        return f"-D {self._data}"

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with processes.exclusive(self.folder / "lock"):
            yield

    def _make_folder(self) -> None:
        self._account = server_account(self._data)
        folder = make_folder(self._wanted_folder, self._account)
        if folder != self._wanted_folder:
            logger.warning("user %s cannot reach the checkout: PostgreSQL is in %s", self._account.name, folder)

    def _recorded_port(self) -> int | None:
        try:
            return int(json.loads((self.folder / "state.json").read_text())["port"])
        except FileNotFoundError:
            return None

    def _signalled(self, number: signal.Signals, timeout_seconds: float) -> bool:
        if (pid := self.pid) is not None:
            processes.send(pid, number)
        return processes.wait_until(lambda: not self.running, timeout_seconds)

    def _make_cluster(self) -> None:
        """In a folder that gets its name last: an interrupted first start leaves nothing half made."""
        assert self._binaries is not None
        if self._data.exists():
            made_by = int((self._data / "PG_VERSION").read_text())
            if made_by != self._binaries.major:
                raise DevstackError(
                    f"{self._data} was made by PostgreSQL {made_by}, found is {self._binaries.major}: "
                    "install the former, or drop the data with `make clean`."
                )
            return
        unfinished = self.folder / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        password = self.folder / "password"
        password.write_text(NAME)
        options = ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
        identity = ["--username", NAME, "--pwfile", str(password)]
        self._run([self._binaries["initdb"], "--pgdata", str(unfinished), *identity, *options])
        self._run(
            [self._binaries["postgres"], "--single", "-D", str(unfinished), "template1"], f"CREATE DATABASE {NAME};\n"
        )
        unfinished.rename(self._data)

    def _run(self, command: list[str], text: str = "") -> None:
        done = subprocess.run(
            command,
            check=False,
            input=text.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            **self._account.arguments(),
        )
        if done.returncode != 0:
            raise DevstackError(f"{command[0]} failed:\n{done.stdout.decode(errors='replace')}")

    def _launch(self, port: int) -> None:
        assert self._binaries is not None
        processes.replace_text(self.folder / "state.json", json.dumps({"port": port}))
        settings = {
            "listen_addresses": self.host,
            "port": str(port),
            "unix_socket_directories": "",  # a socket's path has a length limit that a deep checkout exceeds
            "max_connections": "200",
            "shared_buffers": "256MB",
            "max_wal_size": "2GB",
            "log_line_prefix": "%m [%p] %u@%d ",
        }
        if not self._fsync:
            # Commits stay synchronous: what was acknowledged must outlive kill().
            settings |= {"fsync": "off", "full_page_writes": "off"}
            # Callers may submit in transactions that are prepared.
            settings |= {"max_prepared_transactions": "10"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries["postgres"], "-D", str(self._data), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
                start_new_session=True,
                **self._account.arguments(),
            )

    def _wait_until_ready(self) -> None:
        processes.wait_until(lambda: self._ready or self._exited, 60)
        if not self._ready:
            raise DevstackError(f"PostgreSQL did not start; see {self.log_file}")

    @property
    def _ready(self) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        # Pid and state from one look: a server that was killed left a file that says "ready".
        if len(lines) <= 7 or lines[7].strip() != "ready":
            return False
        return processes.is_alive(int(lines[0]), self._marker)

    @property
    def _exited(self) -> bool:
        return self._process is not None and self._process.poll() is not None and not self.running
