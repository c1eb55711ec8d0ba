"""PostgreSQL and RabbitMQ in containers, with the interface of ``aftercommit.devstack.servers``."""

import functools
import os
import socket
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import docker  # type: ignore[import-untyped]  # comes without types
from docker.errors import APIError, DockerException, ImageNotFound  # type: ignore[import-untyped]  # as above
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from aftercommit.devstack.ports import HOST, free_port
from aftercommit.devstack.processes import wait_until
from aftercommit.devstack.rabbitmq_management import Management

POSTGRES_IMAGE: Final = os.environ.get("TEST_POSTGRES_IMAGE", "postgres:18")
RABBITMQ_IMAGE: Final = os.environ.get("TEST_RABBITMQ_IMAGE", "rabbitmq:4-management")
NAME: Final = "aftercommit"
LABEL: Final = "aftercommit.tests"
"""On each container: the pid of the test run that it is for."""

DEFAULT_ENGINE: Final = "unix:///var/run/docker.sock"
START_SECONDS: Final = 90.0
POLL_SECONDS: Final = 0.2
STOP_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether the tests run on containers, and why, for the run's header."""

    containers: bool
    reason: str


@functools.cache
def choose(wanted: str) -> Choice:
    """``wanted`` is auto, containers or devstack. Auto takes containers only where nothing has to be pulled."""
    if wanted == "devstack":
        return Choice(False, "as asked")
    images = f"{POSTGRES_IMAGE}, {RABBITMQ_IMAGE}"
    try:
        _connect_once()
        with closing(docker.from_env(timeout=5)) as client:
            client.ping()
            missing = [image for image in (POSTGRES_IMAGE, RABBITMQ_IMAGE) if not _is_local(client, image)]
            testcontainers_config.ryuk_disabled = not _is_local(client, testcontainers_config.ryuk_image)
    except (DockerException, OSError):
        if wanted == "containers":
            raise
        return Choice(False, "no Docker engine answers")
    if missing and wanted == "auto":
        return Choice(False, f"the Docker engine has no image {', '.join(missing)}")
    return Choice(True, images)


def _connect_once() -> None:
    """Raises OSError where an engine has stopped and its socket's file is still there: docker-py would leave the
    socket that was refused open, and a test that happens to run when it is collected would get the warning."""
    host = urlsplit(os.environ.get("DOCKER_HOST", DEFAULT_ENGINE))
    if host.scheme == "unix":
        with closing(socket.socket(socket.AF_UNIX)) as connection:
            connection.connect(host.path)


def _is_local(client: docker.DockerClient, image: str) -> bool:
    try:
        client.images.get(image)
    except ImageNotFound:
        return False
    return True


def remove_containers(pid: str) -> None:
    """Removes the containers of one run."""
    with closing(docker.from_env()) as client:
        for container in client.containers.list(all=True, filters={"label": f"{LABEL}={pid}"}, ignore_removed=True):
            with suppress(APIError):  # it is being removed at this moment
                container.remove(force=True, v=True)


class ContainerServer(ABC):
    """A container that keeps its ports and its data when it is stopped, killed and started again."""

    def __init__(self, image: str, *, ports: tuple[int, ...], **options: str) -> None:
        self._image = image
        self._options = options
        # Chosen here, since Docker gives a restarted container other ports than before.
        self._ports = {inside: free_port() for inside in ports}
        self._container: DockerContainer | None = None

    @property
    def host(self) -> str:
        return HOST

    @property
    def running(self) -> bool:
        if self._container is None:
            return False
        self._container.reload()
        return self._container.status == "running"

    def start(self) -> None:
        """Returns once it serves. Harmless when it runs."""
        if self._container is None:
            container = self._make().with_kwargs(labels={LABEL: str(os.getpid())}, **self._options)
            for inside, outside in self._ports.items():
                container.with_bind_ports(inside, outside)
            self._container = container
            container.start()
        else:
            self._container.get_wrapped_container().start()
        if not wait_until(self._serves, START_SECONDS, POLL_SECONDS):
            raise TimeoutError(f"{self._image} does not serve after {START_SECONDS:g} s:\n{self._logs()}")

    def stop(self) -> None:
        """Orderly; the data stay. Harmless when it does not run."""
        if self._container is not None:
            self._container.get_wrapped_container().stop(timeout=STOP_SECONDS)

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        if self.running and self._container is not None:
            self._container.get_wrapped_container().kill()

    def wipe(self) -> None:
        """Removes the container and its data; ``start`` makes it anew, on the same ports."""
        if self._container is not None:
            self._container.stop()
            self._container = None

    @abstractmethod
    def _make(self) -> DockerContainer: ...

    @abstractmethod
    def _serves(self) -> bool: ...

    def _succeeds(self, *command: str) -> bool:
        return self._container is not None and self._container.exec(list(command)).exit_code == 0

    def _logs(self) -> str:
        return b"".join(self._container.get_logs()).decode(errors="replace")[-4_000:] if self._container else ""


class PostgresContainer(ContainerServer):
    def __init__(self) -> None:
        super().__init__(POSTGRES_IMAGE, ports=(5432,))

    @property
    def port(self) -> int:
        return self._ports[5432]

    def environment(self) -> dict[str, str]:
        return {
            "POSTGRES_DB": NAME,
            "POSTGRES_USER": NAME,
            "POSTGRES_PASSWORD": NAME,
            "POSTGRES_HOST": self.host,
            "POSTGRES_PORT": str(self.port),
        }

    def _make(self) -> DockerContainer:
        settings = {"max_connections": "200", "shared_buffers": "256MB", "fsync": "off", "full_page_writes": "off"}
        settings |= {"max_prepared_transactions": "10"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return (
            DockerContainer(self._image)
            .with_envs(POSTGRES_DB=NAME, POSTGRES_USER=NAME, POSTGRES_PASSWORD=NAME)
            .with_command(["postgres", *options])
        )

    def _serves(self) -> bool:
        # Over TCP: while the first start makes the database, only the socket answers.
        return self._succeeds("pg_isready", "-q", "-h", "127.0.0.1", "-U", NAME, "-d", NAME)


class RabbitContainer(ContainerServer):
    def __init__(self) -> None:
        # The data belong to the node's name, and that holds the host's.
        super().__init__(RABBITMQ_IMAGE, ports=(5672, 15672), hostname="rabbitmq")

    @property
    def amqp_port(self) -> int:
        return self._ports[5672]

    @property
    def management_port(self) -> int:
        return self._ports[15672]

    @property
    def management(self) -> Management:
        return Management(f"http://{self.host}:{self.management_port}")

    def environment(self) -> dict[str, str]:
        return {
            "RABBITMQ_URL": f"amqp://guest:guest@{self.host}:{self.amqp_port}/",
            "RABBITMQ_MANAGEMENT_URL": f"http://guest:guest@{self.host}:{self.management_port}",
        }

    def create_vhost(self, name: str) -> None:
        self.management.create_vhost(name)

    def delete_vhost(self, name: str) -> None:
        self.management.delete_vhost(name)

    def rabbitmqctl(self, *arguments: str) -> str:
        """Runs rabbitmqctl in the container and returns what it printed; raises with its output when it fails."""
        assert self._container is not None
        done = self._container.exec(["rabbitmqctl", "--quiet", *arguments])
        text = done.output.decode(errors="replace")
        if done.exit_code != 0:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)} failed:\n{text}")
        return text

    def _make(self) -> DockerContainer:
        return DockerContainer(self._image).with_envs(RABBITMQ_DEFAULT_USER="guest", RABBITMQ_DEFAULT_PASS="guest")

    def _serves(self) -> bool:
        return self._succeeds("bash", "-c", "</dev/tcp/127.0.0.1/5672") and self.management.answers()


class ContainerServers:
    """Both; as a context manager they run for the length of the block, and nothing of them stays."""

    def __init__(self) -> None:
        self.postgres = PostgresContainer()
        self.rabbitmq = RabbitContainer()

    def environment(self) -> dict[str, str]:
        return self.postgres.environment() | self.rabbitmq.environment()

    def start(self) -> None:
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda server: server.start(), (self.postgres, self.rabbitmq)))

    def stop(self) -> None:
        for server in (self.postgres, self.rabbitmq):
            server.wipe()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
