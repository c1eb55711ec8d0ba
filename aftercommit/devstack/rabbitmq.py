"""A private RabbitMQ node on the loopback address, with an epmd (Erlang's port mapper) of its own."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aftercommit.devstack import processes
from aftercommit.devstack.binaries import RabbitBinaries, rabbitmq_binaries
from aftercommit.devstack.failure import DevstackError
from aftercommit.devstack.ports import HOST, accepts, free_port, greets_amqp
from aftercommit.devstack.rabbitmq_management import Management

# The data belong to this name, so it must not change with the ports. It is unique through the private epmd.
NODE = "aftercommit@localhost"
START_TIMEOUT_SECONDS = 90

# Settings that 3.10 and 4.x both know.
_CONFIGURATION = """\
listeners.tcp.local = {host}:{amqp}
disk_free_limit.absolute = 50MB
"""
_MANAGEMENT_CONFIGURATION = """\
management.tcp.ip = {host}
management.tcp.port = {management}
management.rates_mode = basic
"""


class RabbitServer:
    """One node in `folder/rabbitmq`. Its ports are kept for as long as they are free.

    Without `management`, its plugin, it starts a little faster and stops five seconds faster.
    """

    host = HOST

    def __init__(self, folder: Path, *, management: bool = True) -> None:
        self._has_management = management
        self.folder = folder.resolve() / "rabbitmq"
        self._marker = "-devstack " + hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]
        self._binaries: RabbitBinaries | None = None
        self._node: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None

    @property
    def amqp_port(self) -> int:
        return self._port("amqp")

    @property
    def management_port(self) -> int:
        return self._port("management")

    @property
    def management(self) -> Management:
        return Management(f"http://{self.host}:{self.management_port}")

    @property
    def log_file(self) -> Path:
        return self.folder / "log" / f"{NODE}.log"

    @property
    def pid(self) -> int | None:
        """Of the Erlang VM, while it runs."""
        if self._node is not None:
            self._node.poll()  # reaps it
        pid = processes.read_pid(self._node_pid_file)
        return pid if processes.is_alive(pid, self._marker) else None

    @property
    def running(self) -> bool:
        return self.pid is not None

    def environment(self) -> dict[str, str]:
        """What the application's settings are called."""
        management = f"http://guest:guest@{self.host}:{self.management_port}" if self._has_management else ""
        return {
            "RABBITMQ_URL": f"amqp://guest:guest@{self.host}:{self.amqp_port}/",
            "RABBITMQ_MANAGEMENT_URL": management,
        }

    def start(self) -> None:
        """Returns once AMQP and the management API, if it has one, answer.

        A node that a crashed run left behind is taken over.
        """
        if any(quote in str(self.folder) for quote in "'\""):
            # It quotes the path for a shell, and waits for ever for the other half of the quote.
            raise DevstackError(f"RabbitMQ does not start in a folder with a quotation mark in its name: {self.folder}")
        with self._exclusive():
            self._binaries = self._binaries or rabbitmq_binaries()
            if not self.running:
                self._drop_unfinished_data()
                self._choose_ports()
                self._configure()
                self._launch_epmd()
                self._launch_node()
            self._wait_until_ready()
            self._served_once.touch()

    def stop(self) -> None:
        """Orderly: the node first, then its epmd. Harmless when they are not running."""
        if not self.folder.exists():
            return
        with self._exclusive():
            processes.stop_recorded(self._node_pid_file, self._marker)
            processes.stop_recorded(self._epmd_pid_file, self._epmd_marker)
            for process in (self._node, self._epmd):
                if process is not None:
                    process.wait(10)
            self._node = self._epmd = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        """SIGKILL to the Erlang VM. Its epmd stays for the next start; `stop()` ends it."""
        with self._exclusive():
            if (pid := self.pid) is not None:
                processes.send(pid, signal.SIGKILL)
                processes.wait_until(lambda: not self.running, 10)
                if self._node is not None:
                    self._node.wait(10)  # until its last thread has ended it holds its ports, and the next start others

    def wipe(self) -> None:
        """Removes all that a stopped node knew: queues, messages, vhosts."""
        with self._exclusive():
            if self.running:
                raise DevstackError("RabbitMQ runs: stop it before wiping its data.")
            shutil.rmtree(self.folder / "data", ignore_errors=True)

    def create_vhost(self, name: str) -> None:
        self.management.create_vhost(name)

    def delete_vhost(self, name: str) -> None:
        self.management.delete_vhost(name)

    def rabbitmqctl(self, *arguments: str) -> str:
        """Runs rabbitmqctl against this node and returns what it printed; raises with its output when it fails."""
        self._binaries = self._binaries or rabbitmq_binaries()
        command = [self._binaries["rabbitmqctl"], "--quiet", *arguments]
        done = subprocess.run(
            command, check=False, env=self._variables(), capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if done.returncode != 0:
            raise DevstackError(f"rabbitmqctl {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    @property
    def _served_once(self) -> Path:
        """There once the node has served with the data beside it."""
        return self.folder / "data" / "served-once"

    @property
    def _node_pid_file(self) -> Path:
        return self.folder / "node.pid"

    @property
    def _epmd_pid_file(self) -> Path:
        return self.folder / "epmd.pid"

    @property
    def _epmd_marker(self) -> str:
        return f"-port {self._ports().get('epmd')}"

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with processes.exclusive(self.folder / "lock"):
            yield

    def _ports(self) -> dict[str, int]:
        try:
            ports: dict[str, int] = json.loads((self.folder / "state.json").read_text())
        except FileNotFoundError:
            return {}
        return ports

    def _port(self, name: str) -> int:
        if (port := self._ports().get(name)) is None:
            raise DevstackError("RabbitMQ has no ports before its first start.")
        return port

    def _drop_unfinished_data(self) -> None:
        """Of a first start that was killed: the node may not be able to start from them, and nobody used them yet."""
        if not self._served_once.exists():
            shutil.rmtree(self.folder / "data", ignore_errors=True)
            (self.folder / ".erlang.cookie").unlink(missing_ok=True)

    def _choose_ports(self) -> None:
        recorded = self._ports()
        if recorded and self._epmd_runs():
            chosen = {"epmd": recorded["epmd"]}  # it outlived a killed node and holds its port rightly
        else:
            chosen = {"epmd": free_port(recorded.get("epmd"))}
        for name in ("amqp", "management", "distribution"):
            chosen[name] = free_port(recorded.get(name), taken=frozenset(chosen.values()))
        processes.replace_text(self.folder / "state.json", json.dumps(chosen))

    def _configure(self) -> None:
        for name in ("data", "log"):
            (self.folder / name).mkdir(exist_ok=True)
        template = _CONFIGURATION + (_MANAGEMENT_CONFIGURATION if self._has_management else "")
        (self.folder / "rabbitmq.conf").write_text(template.format(host=self.host, **self._ports()))
        plugins = "rabbitmq_management" if self._has_management else ""
        (self.folder / "enabled_plugins").write_text(f"[{plugins}].\n")
        # Present and empty, so that those of a system-wide server are not read.
        (self.folder / "advanced.config").write_text("[].\n")
        (self.folder / "rabbitmq-env.conf").write_text("")

    def _variables(self) -> dict[str, str]:
        """The environment of the node and of rabbitmqctl, free of what is meant for a system-wide server."""
        ports = self._ports()
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RABBITMQ_", "ERL_")) and name != "NOTIFY_SOCKET"
        }
        return inherited | {
            "HOME": str(self.folder),  # for the Erlang cookie
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_PORT": str(ports["epmd"]),
            "ERL_EPMD_ADDRESS": self.host,
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_DIST_PORT": str(ports["distribution"]),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(self.folder / "conf.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
        }

    def _epmd_runs(self) -> bool:
        if self._epmd is not None:
            self._epmd.poll()  # reaps it
        return processes.is_alive(processes.read_pid(self._epmd_pid_file), self._epmd_marker)

    def _launch_epmd(self) -> None:
        """Our own child rather than the node's, so that there is a pid to stop it by."""
        if self._epmd_runs():
            return
        assert self._binaries is not None
        port = self._ports()["epmd"]
        command = [str(self._binaries.epmd), "-port", str(port), "-address", self.host]
        self._epmd = self._spawn(command, {}, self._epmd_pid_file)
        processes.wait_until(lambda: accepts(port), 5)

    def _launch_node(self) -> None:
        assert self._binaries is not None
        variables = {
            # RabbitMQ's default is `none`, where each file access costs a sleep and a wake-up of a thread: on virtual
            # machines that triples the start, which looks for some thousand files.
            "RABBITMQ_SCHEDULER_BUSY_WAIT_THRESHOLD": "very_short",
            # Makes the start script replace itself by the Erlang VM: the pid is the VM's, SIGTERM stops it in order.
            "RUNNING_UNDER_SYSTEMD": "true",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        # As arguments of the script, which passes them on, so that the marker is there from the first moment.
        command = [self._binaries["rabbitmq-server"], *self._marker.split()]
        self._node = self._spawn(command, variables, self._node_pid_file)

    def _spawn(self, command: list[str], variables: dict[str, str], pid_file: Path) -> subprocess.Popen[bytes]:
        with (self.folder / "log" / "console.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self._variables() | variables,
                start_new_session=True,
            )
        pid_file.write_text(f"{process.pid}\n")
        return process

    def _wait_until_ready(self) -> None:
        processes.wait_until(lambda: self._ready or self._exited, START_TIMEOUT_SECONDS, 0.1)
        if not self._ready:
            raise DevstackError(f"RabbitMQ did not start; see {self.log_file.parent}")

    @property
    def _ready(self) -> bool:
        return greets_amqp(self.amqp_port) and (not self._has_management or self.management.answers())

    @property
    def _exited(self) -> bool:
        return self._node is not None and self._node.poll() is not None
