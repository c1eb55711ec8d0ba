"""What a worker writes that shares its queues with other code bases: it claims the tasks whose types it knows and parks
the others in ``parked_tasks``, in one statement and so in one commit.

A parked task is as it was: it waits for the same dispatch, and no attempt of it was begun.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from aftercommit.core.outcomes import Outcome
from aftercommit.core.states import Event, Status
from aftercommit.core.task_ref import TaskRef
from aftercommit.db import claims, record_and_claim
from aftercommit.db.claims import ClaimedTask
from aftercommit.db.database import Fetch
from aftercommit.db.record import AttemptKey

FIRST_LOOK_SECONDS: Final = 5
"""Until maintenance looks after a parked task. Workers that know its type take it long before."""

LOOKED_KEPT: Final = 10
"""So many of the workers that looked at it last are named."""

# A task that runs for this worker was claimed before, when its type did not matter yet, and the answer was lost.
_CLAIMABLE: Final = f"""CASE WHEN t.dispatch = ref.dispatch
    THEN ({claims.WAITS} AND t.type = ANY($11::text[])) OR (t.status = '{Status.RUNNING}' AND t.worker = $3) END"""

# ``since`` stays: it is of the first look, whatever was done to the task meanwhile. In id order, as other workers do.
_PARK: Final = f"""
    unknown AS (
        SELECT t.id, t.dispatch, t.type, t.queue, t.priority
        FROM {claims.REFS} JOIN aftercommit.tasks t ON t.id = ref.id
        WHERE CASE WHEN t.dispatch = ref.dispatch THEN {claims.WAITS} AND t.type <> ALL($11::text[]) END
        ORDER BY t.id
    ), parked AS (
        INSERT INTO aftercommit.parked_tasks AS p (task_id, dispatch, type, queue, priority, looked, look_at)
        SELECT id, dispatch, type, queue, priority, ARRAY[$3], now() + interval '{FIRST_LOOK_SECONDS} seconds'
        FROM unknown
        ON CONFLICT (task_id) DO UPDATE
        SET dispatch = excluded.dispatch, looks = p.looks + 1,
            looked = CASE WHEN $3 = ANY(p.looked) THEN p.looked
                ELSE (p.looked || excluded.looked)[greatest(cardinality(p.looked) - {LOOKED_KEPT - 2}, 1):] END
    )
"""

# A parked row has an id and a dispatch only.
_PARKED_COLUMNS: Final = ", ".join(name if name in ("id", "dispatch") else "NULL" for name in claims.COLUMNS)

_CLAIM_KNOWN: Final = record_and_claim.statement(
    f"{claims.steps(_CLAIMABLE)}, {_PARK}", further=f"UNION ALL SELECT {_PARKED_COLUMNS} FROM unknown"
)


async def record_and_claim_known(
    fetch: Fetch,
    outcomes: Sequence[Outcome],
    refs: Sequence[TaskRef],
    *,
    closed: Sequence[UUID],
    worker: str,
    claim_id: UUID,
    known: Sequence[str],
) -> tuple[list[ClaimedTask], dict[AttemptKey, Event], set[TaskRef]]:
    """What ``record_and_claim`` returns, and the refs that were parked: they wait, and their type is not ``known``.

    ``outcomes`` may be empty. Locks the rows of the parked in id order, by primary key, and not their tasks: a row that
    is parked while its task goes on is stale.
    """
    rows = await fetch(
        _CLAIM_KNOWN,
        *claims.arguments(refs, worker=worker, claim_id=claim_id),
        *record_and_claim.outcome_arguments(outcomes),
        closed,
        known,
    )
    claimed: list[ClaimedTask] = []
    recorded: dict[AttemptKey, Event] = {}
    parked: set[TaskRef] = set()
    for row in rows:
        if row["type"] is not None:
            claimed.append(claims.read(row, worker=worker, claim_id=claim_id))
        elif row["dispatch"] is None:
            recorded[row["id"], row["attempt"]] = Event.SUCCEED
        else:
            parked.add(TaskRef(row["id"], row["dispatch"]))
    return claimed, recorded, parked
