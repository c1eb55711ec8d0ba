"""Tasks that have more than a type and a payload: unique keys, snoozes, delays of their own, and all at once; and a
second in which very many fall due."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final

from tests.faults import faults
from tests.faults.faults import Trial
from tests.faults.kinds import Kind
from tests.faults.load import Planned, Request, plan_of, plan_task
from tests.faults.scenarios.of_cancels import cancel_some, plan_deadline
from tests.faults.scenarios.of_schedules import account_adds_up, tick_meanwhile
from tests.faults.scenarios.registry import scenario
from tests.faults.scenarios.storm import storm

UNIQUE_KEYS: Final = 40


def _plan_any(rng: Random) -> Planned:
    draw = rng.random()
    if draw < 0.05:
        return plan_deadline(rng)
    if draw < 0.1:
        return Planned(Kind.SNOOZING, {"type": Kind.SNOOZING, "payload": {}})
    return _with_options(plan_task(rng), rng)


def _with_options(planned: Planned, rng: Random) -> Planned:
    more: dict[str, object] = {}
    if planned.kind is Kind.QUICK and rng.random() < 0.1:
        more["unique"] = {"key": f"key {rng.randrange(UNIQUE_KEYS)}"}
    if planned.kind is Kind.FLAKY and rng.random() < 0.3:
        more["retry"] = {"backoff": {"initial_seconds": 0.2, "cap_seconds": 1, "jitter": 0.5}}
    return replace(planned, body=planned.body | more)


@scenario(
    "all-features",
    plan=lambda tasks, rng: plan_of(tasks, rng, _plan_any),
    broker_forgets=True,
    verify=account_adds_up,
)
async def all_features(trial: Trial) -> None:
    """All that a task can have, and schedules that tick each second, in a storm."""
    await tick_meanwhile(trial, lambda: asyncio.gather(storm(trial), cancel_some(trial)))


DUE_SECONDS: Final = 15.0
"""From the end of a load at three hundred tasks a second, or more, until all of it falls due."""

LAST_SENT_SECONDS: Final = 3.0
_LAST_SENT: Final = """
    SELECT extract(epoch FROM max(first_started_at) - $1)::float8 AS started,
        extract(epoch FROM max(queued_at) FILTER (WHERE attempt = 1) - $1)::float8 AS sent,
        count(*) FILTER (WHERE first_started_at < $1) AS early
    FROM aftercommit.tasks
"""


def _all_at_once(tasks: int, rng: Random) -> list[Request]:
    due_at = datetime.now(UTC) + timedelta(seconds=DUE_SECONDS + tasks / 300)
    body = {"type": Kind.QUICK, "payload": {}, "run_at": due_at.isoformat()}
    return plan_of(tasks, rng, lambda _: Planned(Kind.QUICK, body))


async def _all_were_sent_in_time(trial: Trial) -> None:
    due_at = _due_at(trial)
    connection = await trial.installation.connect()
    try:
        row = await connection.fetchrow(_LAST_SENT, due_at)
    finally:
        await connection.close()
    assert row is not None  # an aggregate has a row
    trial.found["sent out, started"] = f"the last {row['sent']:.1f} s and {row['started']:.1f} s after it fell due"
    if row["sent"] > LAST_SENT_SECONDS:
        trial.flaws.append(f"the last task was sent out {row['sent']:.1f} s after it fell due")
    if row["early"]:
        trial.flaws.append(f"tasks that were started before they fell due: {row['early']}, should be 0")


def _due_at(trial: Trial) -> datetime:
    return datetime.fromisoformat(trial.load.requests[0].tasks[0].body["run_at"])


@scenario("due-at-once", plan=_all_at_once, verify=_all_were_sent_in_time)
async def due_at_once(trial: Trial) -> None:
    """The whole load falls due in one second, in which one of the maintenance processes is killed."""
    await trial.load.done.wait()
    seconds = (_due_at(trial) - datetime.now(UTC)).total_seconds()
    if seconds < 0:
        trial.flaws.append(f"the load took {-seconds:.1f} s too long: it fell due meanwhile")
    await asyncio.sleep(max(seconds, 0))
    await asyncio.sleep(trial.rng.uniform(0.05, 0.6))
    await faults.kill(trial, trial.role("maintenance"))
