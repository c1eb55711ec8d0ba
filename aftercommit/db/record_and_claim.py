"""What a busy worker writes: it records successes and claims tasks in one statement, and so in one commit."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from aftercommit.core.outcomes import Outcome
from aftercommit.core.states import Event, Status
from aftercommit.core.task_ref import TaskRef
from aftercommit.db import claims
from aftercommit.db.claims import ClaimedTask
from aftercommit.db.database import Fetch
from aftercommit.db.record import NOT_CANCELLING, STILL_RUNS, AttemptKey

# A row of ``recorded`` has an id and an attempt only.
_RECORDED_COLUMNS: Final = ", ".join(name if name in ("id", "attempt") else "NULL" for name in claims.COLUMNS)

# For successes the same as ``record``, which also has history to write and messages to send, and cancels.
_RECORD_AND_CLAIM: Final = f"""
    WITH {claims.STEPS}, ended AS (
        SELECT o.*, t.ctid AS place
        FROM unnest($6::uuid[], $7::int[], $8::text[], $9::json[]) AS o (id, attempt, worker, result)
        JOIN aftercommit.tasks t ON t.id = o.id
        WHERE {STILL_RUNS} AND {NOT_CANCELLING}
        ORDER BY t.id FOR NO KEY UPDATE OF t SKIP LOCKED
    ), recorded AS (
        UPDATE aftercommit.tasks t
        SET status = '{Status.SUCCEEDED}', result = o.result, error = NULL, finished_at = now(), due_at = NULL,
            enqueued = true, result_expires_at = now() + t.result_ttl_seconds * interval '1 second'
        FROM ended o WHERE t.ctid = o.place
        RETURNING t.id, t.attempt
    ), closed AS (
        DELETE FROM aftercommit.claims
        WHERE id = ANY($10::uuid[]) AND (SELECT count(*) FROM recorded) = cardinality($6::uuid[])
    )
    SELECT {", ".join(claims.COLUMNS)} FROM claimed
    UNION ALL
    SELECT {_RECORDED_COLUMNS} FROM recorded
"""


def fits(outcome: Outcome) -> bool:
    """Whether an outcome can be among those of ``record_and_claim``."""
    return outcome.ending is Event.SUCCEED


async def record_and_claim(
    fetch: Fetch,
    outcomes: Sequence[Outcome],
    refs: Sequence[TaskRef],
    *,
    closed: Sequence[UUID],
    worker: str,
    claim_id: UUID,
) -> tuple[list[ClaimedTask], dict[AttemptKey, Event]]:
    """What ``claims.claim`` returns for ``refs``, and ``record.record`` for ``outcomes``, which all ``fit``.

    No task may be in both: Postgres updates a row only once in a statement. Each half promises what its own statement
    does: it skips locked rows, and may be run again after a lost answer, together or apart.
    """
    rows = await fetch(
        _RECORD_AND_CLAIM,
        *claims.arguments(refs, worker=worker, claim_id=claim_id),
        [outcome.task_id for outcome in outcomes],
        [outcome.attempt for outcome in outcomes],
        [outcome.worker for outcome in outcomes],
        [outcome.result for outcome in outcomes],
        closed,
    )
    claimed: list[ClaimedTask] = []
    recorded: dict[AttemptKey, Event] = {}
    for row in rows:
        if row["type"] is None:
            recorded[row["id"], row["attempt"]] = Event.SUCCEED
        else:
            claimed.append(claims.read(row, worker=worker, claim_id=claim_id))
    return claimed, recorded
