"""Both servers together."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from aftercommit.devstack.install import install_missing
from aftercommit.devstack.postgres import PostgresServer
from aftercommit.devstack.rabbitmq import RabbitServer


class Servers:
    """PostgreSQL and RabbitMQ under one folder; as a context manager they run for the length of the block."""

    def __init__(self, folder: Path, *, fsync: bool = True, management: bool = True) -> None:
        self.postgres = PostgresServer(folder, fsync=fsync)
        self.rabbitmq = RabbitServer(folder, management=management)

    def environment(self) -> dict[str, str]:
        return self.postgres.environment() | self.rabbitmq.environment()

    def start(self, *, on_postgres: Callable[[], None] = lambda: None) -> None:
        """Installs what is missing before it makes anything, then starts both side by side; `on_postgres` is called as
        soon as PostgreSQL is there. When one does not start, the call raises or an interruption comes meanwhile, both
        are stopped again."""
        install_missing()

        def start_postgres() -> None:
            self.postgres.start()
            on_postgres()

        threads = ThreadPoolExecutor(2)
        try:
            for start in [threads.submit(each) for each in (start_postgres, self.rabbitmq.start)]:
                start.result()
        except BaseException:
            threads.shutdown()  # a start that is under way cannot be given up
            with contextlib.suppress(Exception):
                self.stop()
            raise
        threads.shutdown()

    def stop(self) -> None:
        with ThreadPoolExecutor(2) as threads:
            stops = [threads.submit(server.stop) for server in (self.postgres, self.rabbitmq)]
        for stop in stops:
            stop.result()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
