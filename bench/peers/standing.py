"""A peer as it stands: a database, a vhost and, where it wants one, a Redis of its own, and its processes."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

from aftercommit.devstack.ports import accepts, free_port
from bench.child_process import ChildProcess
from bench.ground import Ground
from bench.installation import Installation
from bench.peers.order import Order
from bench.peers.peer import Peer, Server
from bench.proc import family
from bench.redis import RedisServer

SWEEP_SECONDS: Final = 0.02


@dataclass(slots=True, kw_only=True)
class Standing:
    """``place`` is an installation with none of our roles."""

    peer: Peer
    python: Path
    place: Installation
    folder: Path
    order: Order
    port: int
    redis: RedisServer | None
    processes: dict[str, ChildProcess] = field(default_factory=dict)

    def enqueue(self) -> ChildProcess:
        return self._start("enqueue", self.peer.module)

    def work(self) -> ChildProcess:
        return self._start("worker", *self.peer.worker(self.order))

    async def serve(self) -> None:
        """Start its endpoint; returns when that takes requests."""
        api = self._start("api", "bench.peers.api", self.peer.module, str(self.port))
        while not await asyncio.to_thread(accepts, self.port):
            api.check()
            await asyncio.sleep(SWEEP_SECONDS)

    def stop(self, what: str) -> None:
        """In whatever state it is."""
        self.processes.pop(what).kill()

    def pids(self) -> dict[str, list[int]]:
        """Of its own processes, and of the servers that it uses."""
        servers = self.place.servers
        roots = {what: process.pid for what, process in self.processes.items() if what != "enqueue"}
        roots |= {
            server: pid
            for server, pid in (
                (Server.POSTGRES, servers.postgres.pid),
                (Server.RABBITMQ, servers.rabbitmq.pid),
                (Server.REDIS, self.redis.pid if self.redis else None),
            )
            if server in self.peer.servers and pid is not None
        }
        return {what: family(pid) for what, pid in roots.items()}

    def check(self) -> None:
        """Raises Died when one of its processes failed."""
        for what, process in self.processes.items():
            if what != "enqueue":
                process.check()

    def _start(self, what: str, *command: str) -> ChildProcess:
        process = ChildProcess(
            f"{self.order.report.name}-{what}",
            [str(self.python), "-m", *command],
            environment={**os.environ, **self.order.environment(), **self.peer.environment},
            folder=self.folder,
        )
        self.processes[what] = process
        return process


@asynccontextmanager
async def stand(ground: Ground, python: Path, peer: Peer, kind: str, *, tasks: int = 0) -> AsyncIterator[Standing]:
    """With no process yet; whatever was started ends with the block."""
    report = ground.folder / f"peer-{uuid4().hex}"
    report.mkdir()
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(report)) if Server.REDIS in peer.servers else None
        async with ground.installation() as place:
            order = Order(place.amqp_url, place.dsn, tasks, kind, report, redis.url if redis else "")
            standing = Standing(
                peer=peer,
                python=python,
                place=place,
                folder=ground.folder,
                order=order,
                port=free_port(),
                redis=redis,
            )
            try:
                yield standing
            finally:
                for process in standing.processes.values():
                    process.kill()


async def exists(file: Path, *processes: ChildProcess) -> None:
    """Returns when it does. Raises Died when one of the processes fails before."""
    while not file.exists():  # noqa: ASYNC240  # one look at a local folder
        for process in processes:
            process.check()
        await asyncio.sleep(SWEEP_SECONDS)
