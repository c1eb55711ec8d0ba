"""Two code bases share the queues: no worker knows all types."""

from itertools import cycle
from random import Random
from typing import Final

from tests.faults import faults
from tests.faults.faults import Trial
from tests.faults.processes import Fleet
from tests.faults.scenarios.registry import KILLS, rounds, scenario

MODULES: Final = ("tests.faults.code_base_one", "tests.faults.code_base_two")

_LEFT: Final = """
    SELECT count(*) AS total, count(*) FILTER (WHERE error ->> 'type' = 'UnknownType') AS unknown
    FROM aftercommit.tasks WHERE status = 'failed'
"""
_PARKED: Final = "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'parked_tasks'"


def _share_out(fleet: Fleet, _rng: Random) -> None:
    for process, module in zip(fleet.of("worker"), cycle(MODULES), strict=False):
        process.extra = {"WORKER_MODULES": module}


async def _none_failed_for_its_type(trial: Trial) -> None:
    connection = await trial.installation.connect()
    try:
        row = await connection.fetchrow(_LEFT)
        trial.found["parked"] = await connection.fetchval(_PARKED)
    finally:
        await connection.close()
    assert row is not None  # an aggregate has a row
    if row["unknown"]:
        trial.flaws.append(f"tasks that failed for their type: {row['unknown']}, should be 0")
    if not trial.found["parked"]:
        trial.flaws.append("no task was parked")


@scenario("two-code-bases", prepare=_share_out, verify=_none_failed_for_its_type)
async def two_code_bases(trial: Trial) -> None:
    """Workers are killed meanwhile, at times all that know a type."""
    await rounds(
        trial,
        KILLS,
        lambda _: faults.kill(trial, trial.role("worker"), down_seconds=trial.rng.choice((0, 1, 3))),
    )
