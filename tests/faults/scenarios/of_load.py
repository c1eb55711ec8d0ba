"""The load or the settings themselves are what makes it hard."""

from random import Random
from typing import Final

from aftercommit.core.failures import LOST_AGAIN, OVERDUE, WORKER_LOST
from tests.faults import faults
from tests.faults.faults import Trial
from tests.faults.kinds import Kind
from tests.faults.load import LARGEST_BATCH, Planned, Request, plan, plan_of, plan_task
from tests.faults.processes import Fleet
from tests.faults.scenarios.registry import no_fault, rounds, scenario

ISOLATED: Final = 180
"""Several times as many as there are processes for, whatever the size of the load."""

OWN_SETTINGS: Final = {
    "worker": (
        {"TASK_TIMEOUT_SECONDS": "30", "WORKER_LEASE_SECONDS": "3", "MAX_RETRIES": "20"},
        {"TASK_TIMEOUT_SECONDS": "60", "WORKER_LEASE_SECONDS": "8", "WORKER_LEASE_RENEW_SECONDS": "3"},
        {"TASK_TIMEOUT_SECONDS": "90", "WORKER_CONCURRENCY": "10", "WORKER_PREFETCH": "5", "MAX_RETRIES": "30"},
    ),
    "relay": (
        {"OUTBOX_BATCH_SIZE": "20", "OUTBOX_TASKS_PER_MESSAGE": "1"},
        {"OUTBOX_BATCH_SIZE": "2000", "OUTBOX_POLL_INTERVAL": "2"},
    ),
    "maintenance": (
        {"RESCUE_OVERDUE_SECONDS": "0.5", "TASK_TIMEOUT_SECONDS": "0.5", "MAX_RETRIES": "0"},
        {"RESCUE_OVERDUE_SECONDS": "1", "TASK_TIMEOUT_SECONDS": "1", "MAX_RETRIES": "1"},
    ),
}
"""Of the first, second, third process of a role."""

_TAKEN: Final = "SELECT count(*) FROM aftercommit.attempts WHERE error ->> 'type' = ANY($1)"
_NOT_SUCCEEDED: Final = """
    SELECT count(*) FROM aftercommit.attempts a JOIN aftercommit.tasks t ON t.id = a.task_id WHERE t.type = $1
"""


def _set_apart(fleet: Fleet, _rng: Random) -> None:
    for kind, own in OWN_SETTINGS.items():
        for process, settings in zip(fleet.of(kind), own, strict=False):
            process.extra = settings


def _some_long(rng: Random) -> Planned:
    """Longer than maintenance's own timeout and grace."""
    if rng.random() < 0.04:
        return Planned(Kind.SLEEP, {"type": Kind.SLEEP, "payload": {"seconds": rng.uniform(2.5, 4)}})
    return plan_task(rng)


async def _nothing_was_taken(trial: Trial) -> None:
    """No worker died, so no attempt may have been taken from one."""
    connection = await trial.installation.connect()
    try:
        taken = await connection.fetchval(_TAKEN, [WORKER_LOST, LOST_AGAIN, OVERDUE])
    finally:
        await connection.close()
    trial.found["taken from living workers"] = taken
    if taken:
        trial.flaws.append(f"attempts taken from living workers: {taken}, should be 0")


@scenario(
    "roles-with-different-settings",
    prepare=_set_apart,
    plan=lambda tasks, rng: plan_of(tasks, rng, _some_long),
    verify=_nothing_was_taken,
)
async def roles_with_different_settings(trial: Trial) -> None:
    """Each process has values of its own; tasks run longer than maintenance would allow."""
    trial.struck.append("settings of its own for each process")


def _many_isolated(tasks: int, rng: Random) -> list[Request]:
    isolated = Planned(Kind.ISOLATED, {"type": Kind.ISOLATED, "payload": {"seconds": 1.5}})
    first = [Request((isolated,) * LARGEST_BATCH, single=False) for _ in range(ISOLATED // LARGEST_BATCH)]
    return [*first, *plan(max(tasks - ISOLATED, 1), rng)]


async def _no_isolated_attempt_failed(trial: Trial) -> None:
    connection = await trial.installation.connect()
    try:
        failed = await connection.fetchval(_NOT_SUCCEEDED, Kind.ISOLATED)
    finally:
        await connection.close()
    if failed:
        trial.flaws.append(f"isolated attempts that did not succeed: {failed}, should be 0")


scenario(
    "isolated-attempts",
    plan=_many_isolated,
    # Soon after its timeout an attempt counts as stuck: one that waits for a process must not.
    settings={"RESCUE_OVERDUE_SECONDS": "6"},
    verify=_no_isolated_attempt_failed,
)(no_fault)


async def _refused_in_good_form(trial: Trial) -> None:
    hinted, bare = trial.load.refusals[True], trial.load.refusals[False]
    trial.found["submits refused with Retry-After"] = hinted
    if not hinted:
        trial.flaws.append("no submit was refused: the load was too small for the API's bound")
    if bare:
        trial.flaws.append(f"submits refused without Retry-After: {bare}, should be 0")


@scenario(
    "submit-storm",
    submits_at_once=400,
    settings={"SUBMIT_QUEUE_TASKS": "200"},
    verify=_refused_in_good_form,
)
async def submit_storm(trial: Trial) -> None:
    """Hundreds of clients submit while nothing can be written: the API refuses what it has no room for."""
    await rounds(trial, 3, lambda _: faults.lock_table(trial, seconds=trial.rng.uniform(2, 4)))
