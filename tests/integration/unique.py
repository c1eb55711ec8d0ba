"""Submits with unique keys, and what becomes of their tasks."""

from typing import Any
from uuid import UUID, uuid4

from aftercommit.core.outcomes import Outcome
from aftercommit.core.states import Event
from aftercommit.core.task_ref import TaskRef
from aftercommit.db import claims, record
from aftercommit.db.claims import ClaimedTask
from aftercommit.db.database import DatabaseConnection
from tests.integration.service import Answer, Api, Service

WORKER = "worker"
HOUR = 3_600
REPLACE = {"key": "k", "on_conflict": "replace"}
ERROR = '{"type": "Test", "message": "no luck", "traceback": null}'


async def submit(api: Api, unique: dict[str, Any] | None = None, **fields: Any) -> Answer:
    unique = {"key": "k"} if unique is None else unique
    return await api.ask("POST", "/v1/tasks", {"type": "echo", "unique": unique, **fields})


async def made(api: Api, unique: dict[str, Any] | None = None, **fields: Any) -> str:
    answer = await submit(api, unique, **fields)
    assert (answer.status, answer.body["submission"]) == (201, "created"), answer
    return str(answer.body["id"])


async def claim(connection: DatabaseConnection, task_id: str, dispatch: int = 1) -> list[ClaimedTask]:
    return await claims.claim(connection.fetch, [TaskRef(UUID(task_id), dispatch)], worker=WORKER, claim_id=uuid4())


async def end(connection: DatabaseConnection, task_id: str, ending: Any = Event.SUCCEED, **fields: Any) -> None:
    values = {"result": "1"} if ending is Event.SUCCEED else {"error": ERROR}
    outcome = Outcome(task_id=UUID(task_id), attempt=1, worker=WORKER, ending=ending, **values | fields)
    assert await record.record(connection.fetch, [outcome])


async def count(service: Service, condition: str = "true") -> int:
    [row] = await service.query(f"SELECT count(*) FROM aftercommit.tasks WHERE {condition}")
    return int(row[0])


async def sent(service: Service) -> dict[str, list[int]]:
    """The dispatches in the outbox, by work queue."""
    rows = await service.query("SELECT work_queue, dispatches FROM aftercommit.outbox_rows ORDER BY id")
    found: dict[str, list[int]] = {}
    for row in rows:
        found.setdefault(row.work_queue, []).extend(row.dispatches)
    return found
