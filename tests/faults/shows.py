"""python -m tests.faults.shows <number>: the figures that the guarantees name, measured with the default settings.

2: how soon the tasks of a killed worker run elsewhere. 3: how soon all is enqueued again after the broker was wiped.
4: how much is enqueued twice while a million tasks wait. 5: what a rolling restart of every role costs.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg

from aftercommit.broker.topology import DEAD_LETTERS
from aftercommit.devstack.servers import Servers
from tests.faults.account import Account, check, observe
from tests.faults.installation import Installation, Shape
from tests.faults.kinds import Kind
from tests.faults.load import Load, Planned, Request
from tests.private_servers import private_servers

DEFAULTS: Final = {
    "WORKER_LEASE_SECONDS": "10",
    "WORKER_LEASE_RENEW_SECONDS": "3",
    "RESCUE_INTERVAL_SECONDS": "1",
    "RECONCILE_INTERVAL_SECONDS": "10",
    "RECONCILE_AFTER_SECONDS": "30",
    "TOPOLOGY_INTERVAL_SECONDS": "30",
    "OUTBOX_POLL_INTERVAL": "1",
    "OUTBOX_CONFIRM_SECONDS": "10",
    "WORKER_SHUTDOWN_SECONDS": "25",
}
"""What the service does when nobody sets anything: the bounds are promised for that."""

SWEEP_SECONDS: Final = 0.1

Show = Callable[[Servers, Path, int], Coroutine[Any, Any, Account]]


@asynccontextmanager
async def installed(
    servers: Servers, logs: Path, shape: Shape, **settings: str
) -> AsyncIterator[tuple[Installation, asyncpg.Connection]]:
    async with Installation(servers, logs, shape=shape, settings={**DEFAULTS, **settings}) as installation:
        connection = await installation.connect()
        try:
            yield installation, connection
        finally:
            await connection.close()


def sleeps(tasks: int, seconds: float) -> list[Request]:
    """Batches of tasks that sleep so long."""
    planned = Planned(Kind.SLEEP, {"type": Kind.SLEEP, "payload": {"seconds": seconds}})
    sizes = [min(500, tasks - start) for start in range(0, tasks, 500)]
    return [Request((planned,) * size, single=False) for size in sizes]


async def until(connection: asyncpg.Connection, statement: str, *arguments: Any, seconds: float) -> float:
    """How many seconds it took until ``statement`` was true. Raises TimeoutError."""
    started = time.monotonic()
    async with asyncio.timeout(seconds):
        while not await connection.fetchval(statement, *arguments):
            await asyncio.sleep(SWEEP_SECONDS)
    return time.monotonic() - started


async def killed_worker(servers: Servers, logs: Path, tasks: int) -> Account:
    """SIGKILL with ``tasks`` (100) running on one worker: all of them run elsewhere within lease + 2 s."""
    account = Account()
    slots = {"WORKER_CONCURRENCY": str(tasks * 2), "WORKER_PREFETCH": str(tasks * 2)}
    async with installed(servers, logs, Shape(relay=1, worker=1), **slots) as (installation, connection):
        load = Load(sleeps(tasks, 20), rate=tasks * 10)
        await load.run(installation.urls)
        await until(
            connection, "SELECT count(*) = $1 FROM aftercommit.tasks WHERE status = 'running'", tasks, seconds=60
        )
        (worker,) = installation.fleet.of("worker")
        installation.add("worker")
        elsewhere = "SELECT count(*) = 1 FROM aftercommit.workers WHERE lease_until > now() AND name NOT LIKE $1"
        name = f"%-{worker.pid}-%"
        await until(connection, elsewhere, name, seconds=60)
        # The worst moment: the lease was renewed just now.
        lease = await connection.fetchval("SELECT lease_until FROM aftercommit.workers WHERE name LIKE $1", name)
        await until(
            connection, "SELECT lease_until > $2 FROM aftercommit.workers WHERE name LIKE $1", name, lease, seconds=10
        )
        killed_at = await connection.fetchval("SELECT clock_timestamp()")
        worker.kill(down_seconds=3600)
        # Running means that the handler runs: it has written its effect.
        again = "SELECT count(DISTINCT task_id) = $1 FROM fault_effects WHERE attempt = 2"
        await until(connection, again, tasks, seconds=120)
        claimed, ran = await connection.fetchrow(
            "SELECT extract(epoch FROM (SELECT max(started_at) FROM aftercommit.tasks) - $1),"
            " extract(epoch FROM (SELECT max(at) FROM fault_effects WHERE attempt = 2) - $1)",
            killed_at,
        ) or (0, 0)
        account.figures[f"seconds until all {tasks} were claimed elsewhere"] = f"{claimed:.1f}"
        account.figures["seconds until all their handlers ran"] = f"{ran:.1f}"
        account.expect("within lease + 2 s (12 s)", ran <= 12, expected=True)
        await until(connection, "SELECT bool_and(status = 'succeeded') FROM aftercommit.tasks", seconds=120)
        await _close(installation, connection, load, account)
    return account


async def wiped_broker(servers: Servers, logs: Path, tasks: int) -> Account:
    """Wipe the data folder under ``tasks`` (20,000) waiting tasks: all are sent again 10 s after the broker is back."""
    account = Account()
    async with installed(servers, logs, Shape(relay=1, worker=2)) as (installation, connection):
        # Stopped, so that all of them wait in RabbitMQ when it is wiped.
        await installation.fleet.stop(installation.fleet.of("worker"))
        load = Load(sleeps(tasks, 0), rate=tasks)
        await load.run(installation.urls)
        await until(connection, "SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows)", seconds=120)
        await asyncio.to_thread(servers.rabbitmq.kill)
        await asyncio.to_thread(servers.rabbitmq.wipe)
        for worker in installation.fleet.of("worker"):
            worker.start()
        await asyncio.to_thread(servers.rabbitmq.start)
        back = await connection.fetchval("SELECT clock_timestamp()")
        await until(connection, "SELECT bool_and(status = 'succeeded') FROM aftercommit.tasks", seconds=600)
        last_ring, last_end = await connection.fetchrow(
            "SELECT extract(epoch FROM max(queued_at) - $1),"
            " extract(epoch FROM max(finished_at) - $1) FROM aftercommit.tasks",
            back,
        ) or (0, 0)
        account.figures["seconds from the broker's return to the last ring"] = f"{last_ring:.1f}"
        account.figures["seconds from the broker's return to the last end"] = f"{last_end:.1f}"
        account.expect("last ring within 10 s", last_ring <= 10, expected=True)
        await _close(installation, connection, load, account)
    return account


_INSERT_WAITING: Final = """
    WITH task AS (
        INSERT INTO aftercommit.tasks (id, type, queue, priority, status, payload)
        SELECT (lpad(to_hex(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
                || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid,
            'fault.quick', 'tasks', (ARRAY['high', 'medium', 'low'])[1 + n % 3], 'queued', '{}'
        FROM generate_series($1::int, $2::int) AS n
        RETURNING id, queue, priority
    )
    INSERT INTO aftercommit.outbox_rows (work_queue, task_ids, dispatches)
    SELECT queue || '.' || priority, ARRAY[id], ARRAY[1] FROM task
"""


async def patient_reconciler(servers: Servers, logs: Path, tasks: int) -> Account:
    """``tasks`` (a million) wait, nobody consumes,
    six reconciler rounds go by: under 0.1 % are enqueued a second time."""
    account = Account()
    rounds = {"RECONCILE_INTERVAL_SECONDS": "5", "RECONCILE_AFTER_SECONDS": "5", "OUTBOX_BATCH_SIZE": "2000"}
    # A message per task, so that what was enqueued twice can be counted.
    rounds["OUTBOX_TASKS_PER_MESSAGE"] = "1"
    async with installed(servers, logs, Shape(relay=1, worker=1), **rounds) as (installation, connection):
        # A few tasks pass through first, so that there is a mark to judge by.
        await Load(sleeps(30, 0), rate=1000).run(installation.urls)
        await until(connection, "SELECT bool_and(status = 'succeeded') FROM aftercommit.tasks", seconds=60)
        await installation.fleet.stop(installation.fleet.of("worker"))
        for start in range(0, tasks, 50_000):
            await connection.execute(_INSERT_WAITING, start + 1, min(start + 50_000, tasks), timeout=300)
        seconds = await until(connection, "SELECT NOT EXISTS (SELECT FROM aftercommit.outbox_rows)", seconds=1800)
        account.figures["seconds to publish all"] = f"{seconds:.0f}"
        await asyncio.sleep(6 * 5)
        depths = await installation.depths()
        depths.pop(DEAD_LETTERS, None)
        waiting = await connection.fetchval("SELECT count(*) FROM aftercommit.tasks WHERE status = 'queued'")
        doubled = await connection.fetchval(
            "SELECT count(*) FROM aftercommit.tasks WHERE status = 'queued' AND queued_at > created_at"
        )
        unpublished = await connection.fetchval("SELECT count(*) FROM aftercommit.outbox_rows")
        account.figures["waiting tasks"] = waiting
        account.figures["messages"] = sum(depths.values())
        account.figures["tasks enqueued a second time"] = doubled
        # A confirm that comes too late makes the relay publish again, which is no ring of the reconciler.
        again = max(sum(depths.values()) - waiting - doubled, 0)
        account.figures["messages published again by the relay"] = again
        account.expect("sent a second time below 0.1 %", doubled + unpublished + again < tasks / 1000, expected=True)
    return account


async def rolling_restart(servers: Servers, logs: Path, tasks: int) -> Account:
    """Every role restarted in turn under 500 tasks/s of 200 ms tasks: no request fails, nothing is charged or run
    twice."""
    account = Account()
    shape = Shape(api=2, relay=2, maintenance=2, worker=3)
    slots = {"WORKER_CONCURRENCY": "100", "WORKER_PREFETCH": "100"}
    planned = Planned(Kind.SLEEP, {"type": Kind.SLEEP, "payload": {"seconds": 0.2}})
    async with installed(servers, logs, shape, **slots) as (installation, connection):
        load = Load([Request((planned,) * 5, single=False) for _ in range(tasks // 5)], rate=500)
        async with asyncio.TaskGroup() as group:
            loading = group.create_task(load.run(installation.urls))
            turns = 0
            while not loading.done():
                for role in installation.fleet:
                    await installation.fleet.restart(role)
                    turns += 1
                    await asyncio.sleep(1)
                    if loading.done():
                        break
        account.figures["restarts under load"] = turns
        await until(connection, "SELECT bool_and(finished_at IS NOT NULL) FROM aftercommit.tasks", seconds=300)
        charged = await connection.fetchval("SELECT count(*) FROM aftercommit.tasks WHERE attempt - uncharged > 1")
        account.expect("charged attempts beyond the first", charged)
        account.expect(
            "tasks run more than once",
            await connection.fetchval(
                "SELECT count(*) FROM (SELECT FROM fault_effects GROUP BY task_id HAVING count(*) > 1) AS again"
            ),
        )
        await _close(installation, connection, load, account)
    return account


async def _close(installation: Installation, connection: asyncpg.Connection, load: Load, account: Account) -> None:
    await installation.fleet.stop()
    account.expect("requests without an answer", len(load.unanswered))
    account.figures["repeated requests"] = load.retries
    check(load.submitted, await observe(connection), account)
    account.expect("roles that died on their own or did not stop", installation.fleet.flaws, [])


SHOWS: Final[dict[int, tuple[Show, int]]] = {
    2: (killed_worker, 100),
    3: (wiped_broker, 20_000),
    4: (patient_reconciler, 1_000_000),
    5: (rolling_restart, 20_000),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.shows", description=__doc__)
    parser.add_argument("number", type=int, choices=SHOWS)
    parser.add_argument("--tasks", type=int, help="how many, instead of what the guarantee names")
    parser.add_argument("--logs", type=Path, help="keep the roles' logs here")
    options = parser.parse_args()
    show, tasks = SHOWS[options.number]
    with private_servers() as (servers, folder):
        logs = options.logs or folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        account = asyncio.run(show(servers, logs, options.tasks or tasks))
    print((show.__doc__ or "").strip())
    print("\n".join(account.lines()))
    return 1 if account.failures else 0


if __name__ == "__main__":
    sys.exit(main())
