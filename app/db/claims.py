"""The claim: waiting tasks become running ones, for one worker; and the release that takes it back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app import lifecycle
from app.lifecycle import Event, Status
from app.rings import Ring
from app.task_error import SUSPICIOUS


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedTask:
    """A task that this worker now runs. ``charged`` counts the attempts, this one included, against max_retries;
    ``suspect``: it may be what took its workers down before."""

    id: UUID
    claim_id: UUID
    worker: str
    dispatch: int
    type: str
    queue: str
    priority: str
    attempt: int
    charged: int
    max_retries: int | None
    timeout_seconds: float | None
    tags: list[str]
    payload: dict[str, Any]
    queued_at: datetime
    suspect: bool
    created_at: datetime
    started_at: datetime


_CLAIM: Final = text(f"""
    WITH ready AS (
        SELECT t.id
        FROM unnest(CAST(:ids AS uuid[]), CAST(:dispatches AS int[])) AS ring (id, dispatch)
        JOIN tasks t ON t.id = ring.id AND t.dispatch = ring.dispatch
        WHERE t.status = ANY(:sources) OR (t.status = '{Status.RUNNING}' AND t.worker = :worker)
        ORDER BY t.id
        FOR UPDATE OF t
    ), held AS (
        INSERT INTO claims (id, worker, task_ids)
        SELECT :claim_id, :worker, array_agg(id) FROM ready HAVING count(*) > 0
        ON CONFLICT (id) DO NOTHING
    )
    UPDATE tasks t
    SET attempt = t.attempt + (t.status <> '{Status.RUNNING}')::int,
        status = '{Status.RUNNING}', worker = :worker, started_at = now(),
        first_started_at = coalesce(t.first_started_at, now()), due_at = NULL
    FROM ready WHERE t.id = ready.id
    RETURNING t.id, t.dispatch, t.type, t.queue, t.priority, t.attempt, t.attempt - t.uncharged AS charged,
        t.max_retries, t.timeout_seconds, t.tags, t.payload, t.created_at, t.queued_at, t.started_at,
        coalesce(t.error ->> 'type' IN {SUSPICIOUS}, false) AS suspect
""")


async def claim(
    connection: AsyncConnection, rings: Sequence[Ring], *, worker: str, claim_id: UUID
) -> list[ClaimedTask]:
    """Claim the tasks that still wait for exactly these dispatches; the others are stale.

    The row ``claim_id`` of ``claims`` lists them until their outcomes are recorded, for the rescuer.

    Locks the rows in id order, by primary key. A task that already runs for this very worker is claimed again,
    uncounted: the commit of an earlier claim went through although its answer was lost. The caller therefore asks
    again with the same ``claim_id``, and keeps back the tasks that it really runs.
    """
    result = await connection.execute(
        _CLAIM,
        {
            "ids": [ring.task_id for ring in rings],
            "dispatches": [ring.dispatch for ring in rings],
            "sources": lifecycle.SOURCES[Event.CLAIM],
            "worker": worker,
            "claim_id": claim_id,
        },
    )
    return [ClaimedTask(claim_id=claim_id, worker=worker, **row) for row in result.mappings()]
