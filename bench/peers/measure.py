"""One peer, once: enqueue everything, then start its worker."""

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from uuid import uuid4

from bench.child_process import ChildProcess, Died
from bench.figures import Sample
from bench.ground import Ground
from bench.installation import Installation
from bench.peers.catalogue import PEERS, Peer
from bench.peers.order import NOOP, SLEEP, Order

KINDS: Final = (NOOP, SLEEP)
LOOK_SECONDS: Final = 0.02
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
    """Tasks/s from the first task to the last: recorded, for those that record.

    Raises Died when one of its processes fails, or it takes too long.
    """
    try:
        async with asyncio.timeout(ground.sizes.peer_seconds):
            return await _measure(ground, python, peer, kind)
    except TimeoutError:
        raise Died(f"{peer.name} did not run its {kind} tasks within {ground.sizes.peer_seconds} s") from None


async def _measure(ground: Ground, python: Path, peer: Peer, kind: str) -> Sample:
    sizes = ground.sizes
    tasks = sizes.peer_noop if kind == NOOP else sizes.peer_sleep
    # A database and a vhost of its own, with none of our roles.
    async with ground.installation() as place:
        name = f"peer-{uuid4().hex}"
        order = Order(place.amqp_url, place.dsn, tasks, kind, ground.folder / name)
        order.report.mkdir()
        environment = {**os.environ, **order.environment(), **peer.environment}
        await _enqueue(name, [str(python), "-m", peer.module], environment, ground)
        await place.settle()
        command = [str(python), "-m", *peer.worker(kind)]
        worker = ChildProcess(f"{name}-worker", command, environment=environment, folder=ground.folder)
        try:
            return {"rate": tasks / await _work(worker, order, peer, place)}
        finally:
            worker.kill()


async def _enqueue(name: str, command: list[str], environment: Mapping[str, str], ground: Ground) -> None:
    enqueuing = ChildProcess(f"{name}-enqueue", command, environment=environment, folder=ground.folder)
    await asyncio.to_thread(enqueuing.wait, float(ground.sizes.peer_seconds))


async def _work(worker: ChildProcess, order: Order, peer: Peer, place: Installation) -> float:
    """Seconds."""
    while not order.first.exists():
        worker.check()
        await asyncio.sleep(LOOK_SECONDS)
    while not peer.forks and not order.last.exists():
        worker.check()
        await asyncio.sleep(LOOK_SECONDS)
    first_at = float(order.first.read_text())
    if peer.unfinished is None:
        return float(order.last.read_text()) - first_at
    while await place.connection.fetchval(peer.unfinished, order.tasks):
        worker.check()
        await asyncio.sleep(FORKED_LOOK_SECONDS if peer.forks else LOOK_SECONDS)
    return time.time() - first_at


def versions(python: Path) -> dict[str, str]:
    """Of the peers' environment. Raises CalledProcessError when something is missing there."""
    names = dict.fromkeys(package for peer in PEERS for package in peer.packages)
    command = [str(python), "-c", _VERSIONS, *names]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, str] = json.loads(printed)
    return found
