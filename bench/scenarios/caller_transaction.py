"""Submits in the caller's own transaction: what they cost a busy database, with a NOTIFY in each and without, and how
soon their tasks start, beside submits over HTTP."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import asyncpg

from aftercommit.db.notifications import OUTBOX_CHANNEL
from bench import callers, clocked, load
from bench.callers import Does, Order
from bench.clocked import Start
from bench.figures import Figure, Sample, percentile
from bench.ground import Ground
from bench.installation import MAINTENANCE, ROLES, Installation
from bench.scenario import Scenario
from bench.scenarios.latency import TYPE, Endpoint
from bench.single_tasks import RATES

CONNECTIONS: Final = (1, 8, 32)
WAIT_SECONDS: Final = 30.0

_STARTS: Final = """
    SELECT id, (payload ->> 'sent_at')::float8 + (result #>> '{}')::float8 AS started_at
    FROM aftercommit.tasks WHERE id >= $1 AND type = $2 AND status = 'succeeded'
"""


@dataclass(frozen=True, slots=True)
class CallersEndpoint:
    """The same installation, with callers who submit in SQL. ``committed`` fills with what they were answered."""

    over_http: Endpoint
    does: Does
    committed: dict[UUID, float] = field(default_factory=dict)

    async def send(self, *, tasks: int, rate: int, connections: int, patience_seconds: float) -> load.Receipt:
        async with asyncio.timeout(tasks / rate + patience_seconds + WAIT_SECONDS):
            receipt = await callers.call(
                Order(
                    dsn=self.over_http.installation.dsn,
                    type=TYPE,
                    does=self.does,
                    transactions=tasks,
                    connections=connections,
                    rate=rate,
                )
            )
        self.committed.clear()
        self.committed.update((UUID(task_id), moment) for task_id, moment in receipt.committed.items())
        return load.Receipt(
            first_sent_at=receipt.first_begun_at,
            last_answered_at=receipt.last_committed_at,
            late_seconds=receipt.late_seconds,
        )

    async def until_run(self, tasks: int, *, since: float) -> None:
        await self.over_http.until_run(tasks, since=since)

    async def starts(self, *, since: float) -> list[Start]:
        return await self.over_http.starts(since=since)

    def pids(self) -> dict[str, list[int]]:
        return self.over_http.pids()

    async def after_commit(self) -> Sequence[float]:
        """Seconds from the answer of each commit to the handler's first line: below 0 where that came first."""
        rows = await self.over_http.installation.connection.fetch(_STARTS, min(self.committed), TYPE)
        return [row["started_at"] - self.committed[row["id"]] for row in rows if row["id"] in self.committed]


async def measure(ground: Ground) -> Sample:
    return {**await _rates(ground), **await _latencies(ground)}


async def _rates(ground: Ground) -> Sample:
    """Transactions/s, and ratios of them."""
    sample: Sample = {}
    async with ground.installation() as installation:
        await _prepare(installation, MAINTENANCE)
        listener = await asyncpg.connect(installation.dsn)  # as a relay is one
        await listener.add_listener(OUTBOX_CHANNEL, lambda *_: None)
        for connections in CONNECTIONS:
            for does in Does:
                await installation.settle()
                sample[f"{does}.{connections}"] = await _rate(installation, does, connections, ground)
            plain, notify = sample[f"{Does.SUBMIT}.{connections}"], sample[f"{Does.SUBMIT_AND_NOTIFY}.{connections}"]
            sample[f"notify_ratio.{connections}"] = notify / plain
        await listener.close()
    return sample


async def _rate(installation: Installation, does: Does, connections: int, ground: Ground) -> float:
    transactions = ground.sizes.submit_single // (4 if connections == 1 else 1)
    order = Order(dsn=installation.dsn, type=TYPE, does=does, transactions=transactions, connections=connections)
    receipt = await callers.call(order)
    return transactions / (receipt.last_committed_at - receipt.first_begun_at)


async def _latencies(ground: Ground) -> Sample:
    sample: Sample = {}
    async with ground.installation() as installation:
        await _prepare(installation, *ROLES)
        over_http = Endpoint(installation)
        endpoints: dict[str, Endpoint | CallersEndpoint] = {
            "http": over_http,
            "sql": CallersEndpoint(over_http, Does.SUBMIT),
            "notified": CallersEndpoint(over_http, Does.SUBMIT_AND_NOTIFY),
        }
        for endpoint in endpoints.values():
            await clocked.warm_up(endpoint)
        for rate in RATES:
            for name, endpoint in endpoints.items():
                await installation.checkpoint()
                found = await clocked.measure(endpoint, rate=rate, seconds=ground.sizes.latency_seconds)
                sample |= {f"{name}.{rate}.{key}": found[key] for key in ("p50", "p99", "cpu", "behind")}
                if isinstance(endpoint, CallersEndpoint):
                    waits = await endpoint.after_commit()
                    sample[f"{name}.{rate}.after_commit"] = percentile(waits, 50) * 1000
            for figure in ("p50", "p99"):
                sample[f"ratio.{rate}.{figure}"] = sample[f"sql.{rate}.{figure}"] / sample[f"http.{rate}.{figure}"]
    return sample


async def _prepare(installation: Installation, *roles: str) -> None:
    """With the callers' own table, and once the queues are known."""
    await installation.start(*roles)
    await installation.connection.execute(callers.TABLE)
    async with asyncio.timeout(WAIT_SECONDS):
        while not await installation.connection.fetchval("SELECT count(*) FROM aftercommit.queues"):
            await asyncio.sleep(0.02)


def _rate_figures(connections: int) -> tuple[Figure, ...]:
    title = f"{connections} caller{'s' if connections > 1 else ''}"
    return (
        Figure(f"{Does.NOTHING}.{connections}", f"{title}: an INSERT of their own", "transactions/s"),
        Figure(f"{Does.SUBMIT}.{connections}", f"{title}: the same and a submit", "transactions/s"),
        Figure(f"{Does.SUBMIT_AND_NOTIFY}.{connections}", f"{title}: the same and a NOTIFY", "transactions/s"),
        Figure(f"notify_ratio.{connections}", f"{title}: with a NOTIFY ÷ without", "×"),
    )


def _latency_figures(rate: int) -> tuple[Figure, ...]:
    names = {"http": "over HTTP", "sql": "in SQL", "notified": "in SQL with a NOTIFY"}
    return (
        *(
            Figure(f"{name}.{rate}.{figure}", f"{title} at {rate}/s: submit → handler start, {figure}", "ms")
            for name, title in names.items()
            for figure in ("p50", "p99")
        ),
        Figure(f"ratio.{rate}.p50", f"in SQL ÷ over HTTP at {rate}/s, p50", "×"),
        Figure(f"ratio.{rate}.p99", f"in SQL ÷ over HTTP at {rate}/s, p99", "×"),
        *(
            Figure(
                f"{name}.{rate}.after_commit", f"{names[name]} at {rate}/s: commit answered → handler start, p50", "ms"
            )
            for name in ("sql", "notified")
        ),
        *(
            Figure(f"{name}.{rate}.cpu", f"{title} at {rate}/s: processor time, all together", "ms/task")
            for name, title in names.items()
        ),
    )


SCENARIO: Final = Scenario(
    "caller_transaction",
    "callers on connections of their own, each transaction an INSERT of theirs, a submit and its commit in four round "
    "trips: first as fast as they can, with maintenance alone and one connection that listens; then by the clock, "
    f"{RATES[0]} and {RATES[1]} a second over 64 connections, from the moment a transaction was due to the handler's "
    "first line, beside single POSTs on the same installation",
    (
        *(figure for connections in CONNECTIONS for figure in _rate_figures(connections)),
        *(figure for rate in RATES for figure in _latency_figures(rate)),
    ),
    measure,
)
