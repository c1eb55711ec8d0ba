"""The full path while a long transaction keeps Postgres from cleaning up behind it."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from bench.figures import Figure, Sample, at_least, median
from bench.ground import Ground
from bench.installation import ROLES, Installation
from bench.scenario import Scenario
from bench.scenarios.full_path import NOOP, sustained_rate
from bench.tuning import FOR_SHORT_TASKS


async def measure(ground: Ground) -> Sample:
    sizes = ground.sizes
    async with ground.installation() as installation:
        await installation.start(*ROLES)
        await installation.warm_up(NOOP, sizes.warm_up)
        before = await _rates(installation, sizes.horizon, rounds=sizes.rounds)
        async with _pinned(installation):
            pinned = await _rates(installation, sizes.horizon, seconds=sizes.horizon_seconds, rounds=sizes.rounds)
        await installation.connection.execute("VACUUM")  # what autovacuum would do within a minute
        after = await _rates(installation, sizes.horizon, rounds=sizes.rounds)
    without = median(before)
    return {
        "without": without,
        "pinned": median(pinned),
        "pinned_last": median(pinned[-sizes.rounds :]),
        "pinned_ratio": median(pinned) / without,
        "last_ratio": median(pinned[-sizes.rounds :]) / without,
        "after_ratio": median(after) / without,
    }


@asynccontextmanager
async def _pinned(installation: Installation) -> AsyncIterator[None]:
    """A transaction with a snapshot, as a report or a forgotten session holds one."""
    connection = await asyncpg.connect(installation.dsn)
    try:
        async with connection.transaction(isolation="repeatable_read"):
            await connection.fetchval("SELECT count(*) FROM aftercommit.outbox_rows")
            yield
    finally:
        await connection.close()


async def _rates(installation: Installation, tasks: int, *, rounds: int, seconds: float = 0) -> list[float]:
    """So many rounds at least, and further ones until ``seconds`` have passed; the last one begins before."""
    rates: list[float] = []
    deadline = time.monotonic() + seconds
    while len(rates) < rounds or time.monotonic() < deadline:
        rates.append(await sustained_rate(installation, tasks))
    return rates


SCENARIO: Final = Scenario(
    "horizon",
    "the full path in rounds: before, during and after a repeatable-read transaction that pins the vacuum horizon, for "
    "ten minutes in full; medians of rounds",
    (
        Figure("without", "full path before the long transaction", "tasks/s"),
        Figure("pinned", "full path during it, median round", "tasks/s"),
        Figure("pinned_last", "full path at its end, the last rounds", "tasks/s"),
        Figure("pinned_ratio", "during ÷ before", "×", at_least(0.8)),
        Figure("last_ratio", "last rounds ÷ before", "×", at_least(0.8)),
        Figure("after_ratio", "after ÷ before", "×", at_least(0.95)),
    ),
    measure,
    once=True,
    settings=FOR_SHORT_TASKS,
)
