"""Postgres dies, is full, holds its rows."""

import asyncio
import time
from dataclasses import replace
from random import Random
from typing import Final

from tests.faults import faults
from tests.faults.account import OLD
from tests.faults.faults import Trial
from tests.faults.load import Planned, plan_of, plan_task
from tests.faults.probes import LOOK_SECONDS, until_others_are_final
from tests.faults.scenarios.registry import ROUNDS, rounds, scenario
from tests.faults.settings import LEASE_SECONDS

LOCKED_OF_EACH: Final = 3
SUCCEEDED_SECONDS: Final = 2
FAILED_SECONDS: Final = 4
OLD_TASKS: Final = 20_000
DELETE_SECONDS: Final = 150.0
"""A task is deleted up to a minute after its time."""


@scenario("database-killed")
async def database_killed(trial: Trial) -> None:
    await rounds(trial, ROUNDS, lambda _: faults.kill_database(trial, down_seconds=trial.rng.choice((0, 1, 5))))


@scenario("database-restarts")
async def database_restarts(trial: Trial) -> None:
    """Every few seconds, as long as the load comes in."""
    while not trial.load.done.is_set():
        await faults.restart_database(trial)
        await asyncio.sleep(trial.rng.uniform(2, 4))


@scenario("database-disk-full")
async def database_disk_full(trial: Trial) -> None:
    """For less than a lease, and for more."""
    await rounds(
        trial, ROUNDS, lambda _: faults.fill_database(trial, seconds=trial.rng.uniform(0.5, LEASE_SECONDS * 3))
    )


@scenario("horizon-held")
async def horizon_held(trial: Trial) -> None:
    await faults.hold_horizon(trial)


@scenario("locked-row")
async def locked_row(trial: Trial) -> None:
    """A transaction of somebody else's holds some tasks until all others have ended: nobody waits for those."""
    await trial.load.until(0.2)
    async with faults.locked_rows(trial, of_each=LOCKED_OF_EACH) as locked:
        await until_others_are_final(trial, "id = ANY($1)", locked)


def _some_held(rng: Random) -> Planned:
    planned = plan_task(rng)
    return replace(planned, body=planned.body | {"tags": ["hold"]}) if rng.random() < 0.05 else planned


_ADD_OLD: Final = """
    INSERT INTO aftercommit.tasks (id, type, queue, priority, status, payload, tags, error, created_at, finished_at)
    SELECT (lpad(to_hex(floor(extract(epoch FROM now() - interval '1 hour') * 1000)::bigint), 12, '0')
            || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid,
        $1, 'tasks', 'low', CASE WHEN failed THEN 'failed' ELSE 'succeeded' END, '{}',
        CASE WHEN n % 20 = 0 THEN '{hold}'::text[] ELSE '{}' END,
        CASE WHEN failed THEN '{"type": "Old"}'::json END, now() - interval '1 hour', now() - interval '1 hour'
    FROM generate_series(1, $2::int) AS n, LATERAL (SELECT n % 7 = 0 AS failed) AS how
"""
_DELETABLE: Final = f"""
    SELECT count(*) FROM aftercommit.tasks
    WHERE NOT tags @> '{{hold}}' AND finished_at < now() - interval '1 second'
        * CASE status WHEN 'succeeded' THEN {SUCCEEDED_SECONDS} ELSE {FAILED_SECONDS} END
"""
_DELETED: Final = f"""
    SELECT count(*) AS deleted, count(*) FILTER (WHERE tags @> '{{hold}}') AS held,
        count(*) FILTER (WHERE finished_at IS NULL OR finished_at > deleted_at - interval '1 second'
            * CASE status WHEN 'succeeded' THEN {SUCCEEDED_SECONDS} ELSE {FAILED_SECONDS} END) AS early
    FROM fault_deleted_tasks
"""


async def _verify_retention(trial: Trial) -> None:
    """All that may go is gone, and nothing else."""
    connection = await trial.installation.connect()
    try:
        given_up_at = time.monotonic() + DELETE_SECONDS
        while (left := await connection.fetchval(_DELETABLE)) and time.monotonic() < given_up_at:
            await asyncio.sleep(LOOK_SECONDS)
        row = await connection.fetchrow(_DELETED)
    finally:
        await connection.close()
    assert row is not None  # an aggregate has a row
    trial.found["deleted tasks"] = row["deleted"]
    for what, count in {"not deleted": left, "deleted though held": row["held"], "deleted early": row["early"]}.items():
        if count:
            trial.flaws.append(f"tasks {what}: {count}, should be 0")
    if not row["deleted"]:
        trial.flaws.append("no task was deleted")


@scenario(
    "retention-under-load",
    plan=lambda tasks, rng: plan_of(tasks, rng, _some_held),
    settings={
        "RETENTION_TASKS_PER_SECOND": "1000",
        "RETENTION_SUCCEEDED_SECONDS": str(SUCCEEDED_SECONDS),
        "RETENTION_FAILED_SECONDS": str(FAILED_SECONDS),
        "PRUNE_INTERVAL_SECONDS": "0.5",
    },
    verify=_verify_retention,
)
async def retention_under_load(trial: Trial) -> None:
    """What has ended is deleted while the load runs and processes die."""
    connection = await trial.installation.connect()
    try:
        await connection.execute(_ADD_OLD, OLD, OLD_TASKS)
    finally:
        await connection.close()
    await rounds(trial, ROUNDS, lambda _: faults.kill(trial, trial.role("worker", "maintenance")))
