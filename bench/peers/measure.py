"""One peer, once: everything is enqueued and then its worker started, or its worker works meanwhile."""

import asyncio
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Final
from uuid import uuid4

from bench.child_process import ChildProcess, Died
from bench.figures import Sample
from bench.ground import Ground
from bench.installation import Installation
from bench.peers.catalogue import PEERS, Peer
from bench.peers.order import NOOP, SLEEP, SUSTAINED, WARM_UP, Order

KINDS: Final = (NOOP, SUSTAINED, SLEEP)
SWEEP_SECONDS: Final = 0.02
WARM_SECONDS: Final = 1.0
"""For what is left of the warm-up."""

FORKED_LOOK_SECONDS: Final = 0.2
"""Seldom: counting costs, and the peers concerned take long."""

_VERSIONS: Final = """
import importlib.metadata, json, platform, sys
found = {name: importlib.metadata.version(name) for name in sys.argv[1:]}
print(json.dumps({"Python": platform.python_version(), **found}))
"""


def series_name(peer: Peer, kind: str) -> str:
    """What its samples are kept under."""
    return f"peer.{peer.name}.{kind}"


async def measure(ground: Ground, python: Path, peer: Peer, kind: str) -> Sample:
    """Tasks/s from the first task to the last, or from the first enqueued to the last when the worker works meanwhile:
    recorded, for those that record.

    Raises Died when one of its processes fails, or it takes too long.
    """
    try:
        async with asyncio.timeout(ground.sizes.peer_seconds):
            return await _measure(ground, python, peer, kind)
    except TimeoutError:
        raise Died(f"{peer.name} did not run its {kind} tasks within {ground.sizes.peer_seconds} s") from None


async def _measure(ground: Ground, python: Path, peer: Peer, kind: str) -> Sample:
    # A database and a vhost of its own, with none of our roles.
    async with ground.installation() as place:
        name = f"peer-{uuid4().hex}"
        order = Order(place.amqp_url, place.dsn, _tasks(ground, peer, kind), kind, ground.folder / name)
        order.report.mkdir()
        environment = {**os.environ, **order.environment(), **peer.environment}

        def start(what: str, *command: str) -> ChildProcess:
            return ChildProcess(
                f"{name}-{what}", [str(python), "-m", *command], environment=environment, folder=ground.folder
            )

        enqueuing = start("enqueue", peer.module)
        try:
            if kind == SUSTAINED:
                await _exists(order.ready, enqueuing)
            else:
                await asyncio.to_thread(enqueuing.wait, float(ground.sizes.peer_seconds))
                await place.settle()
            worker = start("worker", *peer.worker(kind))
            try:
                if kind == SUSTAINED:
                    await _exists(order.warm, worker, enqueuing)
                    await asyncio.sleep(WARM_SECONDS)
                    # Statistics of a hundred tasks would mislead the plans of peers that work in Postgres.
                    await place.checkpoint()
                    order.go.touch()
                    await _exists(order.begun, worker, enqueuing)
                return {"rate": order.measured / await _work(worker, order, peer, place)}
            finally:
                worker.kill()
        finally:
            enqueuing.kill()


def _tasks(ground: Ground, peer: Peer, kind: str) -> int:
    """With those that go ahead."""
    if kind == SLEEP:
        return round(ground.sizes.peer_sleep * min(peer.pace, 1))
    return round(ground.sizes.peer_noop * peer.pace) + (WARM_UP if kind == SUSTAINED else 0)


async def _work(worker: ChildProcess, order: Order, peer: Peer, place: Installation) -> float:
    """Seconds."""
    started = order.begun if order.kind == SUSTAINED else order.first
    await _exists(started, worker)
    if not peer.forks:
        await _exists(order.last, worker)
    started_at = float(started.read_text())
    if peer.unfinished is None:
        return float(order.last.read_text()) - started_at
    while await place.connection.fetchval(peer.unfinished, order.tasks):
        worker.check()
        await asyncio.sleep(FORKED_LOOK_SECONDS if peer.forks else SWEEP_SECONDS)
    return time.time() - started_at


async def _exists(file: Path, *processes: ChildProcess) -> None:
    while not file.exists():  # noqa: ASYNC240  # one look at a local folder
        for process in processes:
            process.check()
        await asyncio.sleep(SWEEP_SECONDS)


def versions(python: Path) -> dict[str, str]:
    """Of the peers' environment. Raises CalledProcessError when something is missing there."""
    names = dict.fromkeys(package for peer in PEERS for package in peer.packages)
    command = [str(python), "-c", _VERSIONS, *names]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, str] = json.loads(printed)
    return found
