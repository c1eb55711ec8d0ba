"""Things that tests need whole, although they care for a part."""

from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from aftercommit import Context
from aftercommit.db.claims import ClaimedTask

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def no_transaction() -> AbstractAsyncContextManager[Any]:
    raise AssertionError("this handler was not to touch the database")


def a_context(**changes: Any) -> Context:
    fields: dict[str, Any] = {
        "task_id": UUID(int=7),
        "type": "test",
        "queue": "tasks",
        "priority": "high",
        "attempt": 1,
        "tags": (),
        "created_at": NOW,
        "deadline": NOW,
        "logger": None,
        "transaction": no_transaction,
    }
    return Context(**fields | changes)


def a_claimed_task(**changes: Any) -> ClaimedTask:
    fields: dict[str, Any] = {
        "id": UUID(int=1),
        "claim_id": UUID(int=2),
        "worker": "worker",
        "dispatch": 1,
        "type": "test",
        "queue": "tasks",
        "priority": "high",
        "attempt": 1,
        "charged": 1,
        "suspect": False,
        "max_retries": None,
        "timeout_seconds": None,
        "tags": [],
        "payload": "{}",
        "queued_at": NOW,
        "created_at": NOW,
        "started_at": NOW,
    }
    return ClaimedTask(**fields | changes)
