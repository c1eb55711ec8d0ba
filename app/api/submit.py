"""From a checked request to committed rows: sizes, queues, ids, and what an Idempotency-Key means."""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime

from uuid_utils.compat import uuid7

from app import json_text
from app.api.problems import invalid
from app.api.schemas import TaskIn, TaskOut
from app.api.services import Services
from app.db import idempotency, tasks
from app.db.engine import single_statement
from app.db.tasks import IdempotencyKey, NewTask
from app.errors import FieldError, IdempotencyKeyReused
from app.lifecycle import Status


def prepare(wanted: Sequence[TaskIn], services: Services, *, batch: bool) -> list[NewTask]:
    """Give each task its id. Raises InvalidRequest naming the field, and in a batch its index."""
    flaws: list[FieldError] = []
    new = []
    settings = services.settings
    for index, task in enumerate(wanted):
        pointer = f"#/tasks/{index}" if batch else "#"
        payload = json_text.dump(task.payload)
        queue = task.queue or settings.queues[0]
        if (size := len(payload.encode())) > settings.api_max_payload_bytes:
            limit = settings.api_max_payload_bytes
            flaws.append(FieldError(f"{pointer}/payload", f"has {size} bytes; API_MAX_PAYLOAD_BYTES allows {limit}"))
        if queue not in settings.queues:
            known = ", ".join(settings.queues)
            flaws.append(FieldError(f"{pointer}/queue", f"{queue!r} is not one of QUEUES: {known}"))
        new.append(
            NewTask(
                id=uuid7(),
                type=task.type,
                payload=payload,
                queue=queue,
                priority=task.priority,
                max_retries=task.max_retries,
                timeout_seconds=task.timeout_seconds,
                tags=tuple(dict.fromkeys(task.tags)),
            )
        )
    if flaws:
        raise invalid(*flaws)
    return new


def request_key(header: str | None, path: str, wanted: Sequence[TaskIn]) -> IdempotencyKey | None:
    """What a request's Idempotency-Key stands for: its path and what it asks for, however that is spelt."""
    if header is None:
        return None
    asked = json.dumps([path, [task.model_dump(mode="json") for task in wanted]], sort_keys=True)
    return IdempotencyKey(header, hashlib.sha256(asked.encode()).digest())


async def commit(new: Sequence[NewTask], services: Services, *, key: IdempotencyKey | None) -> list[TaskOut] | None:
    """Commit the tasks and return them; None when the key belongs to an earlier request, and nothing was committed.

    Raises DatabaseUnavailable when Postgres is away.
    """
    async with single_statement(services.engine) as connection:
        created_at = await tasks.submit(connection, new, key=key)
    if created_at is None:
        return None
    services.outbox_signal.send()
    return [_submitted(task, created_at) for task in new]


async def replay(services: Services, key: IdempotencyKey) -> list[TaskOut]:
    """The tasks of the earlier request that holds ``key``, as they stand now. Raises IdempotencyKeyReused."""
    async with single_statement(services.engine) as connection:
        held = await idempotency.get(connection, key.key)
        if held is None or held.request_hash != key.request_hash:
            raise IdempotencyKeyReused(
                f"Idempotency-Key {key.key!r} came with another body before. Use a new key for a new request."
            )
        rows = {row.id: row for row in await tasks.get(connection, held.task_ids)}
    return [TaskOut.model_validate(rows[task_id]) for task_id in held.task_ids if task_id in rows]


def _submitted(task: NewTask, created_at: datetime) -> TaskOut:
    """A task as the statement left it: saves reading it back."""
    return TaskOut(
        id=task.id,
        type=task.type,
        queue=task.queue,
        priority=task.priority,
        status=Status.QUEUED,
        payload=json.loads(task.payload),
        tags=list(task.tags),
        max_retries=task.max_retries,
        timeout_seconds=task.timeout_seconds,
        dispatch=1,
        attempt=0,
        worker=None,
        result=None,
        error=None,
        created_at=created_at,
        queued_at=created_at,
        due_at=None,
        first_started_at=None,
        started_at=None,
        finished_at=None,
    )
