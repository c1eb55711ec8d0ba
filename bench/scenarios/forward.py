"""The forwarder beside a client that submits the same tasks in batches: what the way through an outbox costs."""

import asyncio
import time
from typing import Final

from aftercommit.db import caller_outbox
from bench.figures import Figure, Sample, at_least
from bench.ground import Ground
from bench.installation import API, FORWARDER, MAINTENANCE, Installation
from bench.scenario import Scenario
from bench.scenarios.submit import NOOP

BATCH: Final = 1_000
SECONDS: Final = 300.0
LOOK_SECONDS: Final = 0.01

FILL: Final = """
    SELECT count(aftercommit_outbox.submit_task('bench.noop', key => CASE WHEN $2 THEN 'key ' || n % 1000 END))
    FROM generate_series(1, $1::int) AS n
"""
WAITS: Final = "SELECT EXISTS (SELECT FROM aftercommit_outbox.rows)"


async def measure(ground: Ground) -> Sample:
    tasks = ground.sizes.submit_batch
    one = await _http(ground, tasks, connections=1)
    several = await _http(ground, tasks, connections=4)
    forwarded = await _forwarded(ground, tasks, keyed=False)
    keyed = await _forwarded(ground, tasks, keyed=True)
    return {
        "http": one,
        "http.4": several,
        "forwarded": forwarded,
        "keyed": keyed,
        "ratio": forwarded / one,
        "ratio.4": forwarded / several,
    }


async def _http(ground: Ground, tasks: int, *, connections: int) -> float:
    """Tasks/s."""
    async with ground.installation() as installation:
        await _prepare(installation)
        receipt = await installation.submit(NOOP, tasks, batch=BATCH, connections=connections)
    return tasks / (receipt.last_answered_at - receipt.first_sent_at)


async def _forwarded(ground: Ground, tasks: int, *, keyed: bool) -> float:
    """Rows/s, from the first batch that is settled to the last: what comes before is the forwarder's start."""
    async with ground.installation() as installation:
        await _prepare(installation)
        await caller_outbox.install(installation.dsn)
        async with asyncio.timeout(SECONDS):
            await installation.connection.execute("BEGIN")
            await installation.connection.fetchval(FILL, tasks, keyed)
            await installation.connection.execute("COMMIT")
            await installation.settle()
            await installation.start(FORWARDER, settings=installation.forwarding)
            while (left := await _left(installation)) == tasks:
                await asyncio.sleep(LOOK_SECONDS)
            begun_at = time.monotonic()
            while await installation.connection.fetchval(WAITS):
                await asyncio.sleep(LOOK_SECONDS)
            return left / (time.monotonic() - begun_at)


async def _left(installation: Installation) -> int:
    return int(await installation.connection.fetchval("SELECT count(*) FROM aftercommit_outbox.rows"))


async def _prepare(installation: Installation) -> None:
    await installation.start(MAINTENANCE, API)
    await installation.submit(NOOP, 4 * BATCH, batch=BATCH, connections=4)
    await installation.settle()


SCENARIO: Final = Scenario(
    "forward",
    "one API process, no relay and no worker; batches of 1,000 no-op tasks: a client posts them over one and over "
    "four connections, and a forwarder those that wait in an outbox in the same PostgreSQL, with and without keys",
    (
        Figure("http", "batches over HTTP, one connection", "tasks/s"),
        Figure("http.4", "batches over HTTP, four connections", "tasks/s"),
        Figure("forwarded", "forwarded", "tasks/s"),
        Figure("keyed", "forwarded, with keys", "tasks/s"),
        Figure("ratio", "forwarded ÷ over HTTP, one connection", "×", at_least(0.5)),
        Figure("ratio.4", "forwarded ÷ over HTTP, four connections", "×"),
    ),
    measure,
)
