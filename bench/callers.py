"""Callers who submit in transactions of their own, in a process of their own: ``python -m bench.callers`` reads an
``Order`` from stdin and prints a ``Receipt``.

Each transaction inserts a row of the caller's own and, as ordered, submits a task and sends a NOTIFY.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Final

import asyncpg
import uvloop

from aftercommit.db.notifications import OUTBOX_CHANNEL
from bench.child_process import CHECKOUT, Died

TABLE: Final = "CREATE TABLE public.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL)"
_INSERT: Final = "INSERT INTO public.orders (note) VALUES ($1)"
_SUBMIT: Final = "SELECT aftercommit.submit_task($1, jsonb_build_object('sent_at', $2::float8)) AS id"


class Does(StrEnum):
    """What a transaction does beside its own INSERT."""

    NOTHING = "nothing"
    SUBMIT = "submit"
    SUBMIT_AND_NOTIFY = "submit_and_notify"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """So many transactions. With a ``rate`` (transactions/s) they begin by the clock, whatever they take."""

    dsn: str
    type: str
    does: Does
    transactions: int
    connections: int
    rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Times are Unix times. ``committed`` says for each task when its commit was answered. ``late_seconds``: how far
    the callers themselves fell behind their clock, at worst."""

    first_begun_at: float
    last_committed_at: float
    late_seconds: float
    committed: dict[str, float] = field(default_factory=dict)


class Callers:
    def __init__(self, order: Order) -> None:
        self._order = order
        self._statement = _SUBMIT
        if order.does is Does.SUBMIT_AND_NOTIFY:
            self._statement += f", pg_notify('{OUTBOX_CHANNEL}', '')"
        self._numbers = iter(range(order.transactions))
        self._committed: dict[str, float] = {}
        self._late_seconds = 0.0

    async def run(self) -> Receipt:
        connections = [await asyncpg.connect(self._order.dsn) for _ in range(self._order.connections)]
        for connection in connections:
            await self._prepare(connection)
        began_at = time.time()
        async with asyncio.TaskGroup() as group:
            for connection in connections:
                group.create_task(self._work(connection, began_at))
        ended_at = time.time()
        for connection in connections:
            await connection.close()
        return Receipt(
            first_begun_at=began_at,
            last_committed_at=ended_at,
            late_seconds=self._late_seconds,
            committed=self._committed,
        )

    async def _prepare(self, connection: asyncpg.Connection) -> None:
        """Have the statements planned, and the functions compiled."""
        transaction = connection.transaction()
        await transaction.start()
        for _ in range(6):
            await connection.execute(_INSERT, "")
            if self._order.does is not Does.NOTHING:
                await connection.fetchrow(_SUBMIT, self._order.type, 0.0)
        await transaction.rollback()

    async def _work(self, connection: asyncpg.Connection, began_at: float) -> None:
        for number in self._numbers:
            due_at = time.time()
            if self._order.rate is not None:
                due_at = began_at + number / self._order.rate
                if (wait := due_at - time.time()) > 0:
                    await asyncio.sleep(wait)
                    self._late_seconds = max(self._late_seconds, time.time() - due_at)
            await self._transact(connection, due_at)

    async def _transact(self, connection: asyncpg.Connection, due_at: float) -> None:
        """What waited for a free connection was meant to be sent earlier: that wait is latency too."""
        row = None
        async with connection.transaction():
            await connection.execute(_INSERT, "a note that says nothing")
            if self._order.does is not Does.NOTHING:
                row = await connection.fetchrow(self._statement, self._order.type, due_at)
        if row is not None and self._order.rate is not None:
            self._committed[str(row["id"])] = time.time()


async def call(order: Order) -> Receipt:
    """Have a process work off an order. Raises Died with what it printed when it fails."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.callers"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=CHECKOUT,
    )
    try:
        printed, complaints = await process.communicate(json.dumps(asdict(order)).encode())
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        raise Died(f"the callers failed:\n{complaints.decode()[-1_500:]}")
    return Receipt(**json.loads(printed))


async def main() -> None:
    given = json.load(sys.stdin)
    receipt = await Callers(Order(**given | {"does": Does(given["does"])})).run()
    print(json.dumps(asdict(receipt)))


if __name__ == "__main__":
    uvloop.run(main())
