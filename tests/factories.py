"""Things that tests need whole, although they care for a part."""

from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from aftercommit import Context
from aftercommit.broker.consumer import Delivery
from aftercommit.core.settings import Settings
from aftercommit.db import leases
from aftercommit.db.claims import ClaimedTask
from aftercommit.db.database import DatabaseConnection
from aftercommit.worker.executor import Executor
from aftercommit.worker.handler_threads import HandlerThreads
from aftercommit.worker.handler_transaction import HandlerTransactions
from aftercommit.worker.process_runner import TellProgress
from aftercommit.worker.registry import Handlers
from aftercommit.worker.start_times import StartTimes
from aftercommit.worker.type_filter import TypeFilter

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
        "expires_at": None,
        "retry": None,
        "schedule": None,
    }
    return ClaimedTask(**fields | changes)


def an_executor(
    handlers: Handlers,
    *,
    settings: Settings | None = None,
    threads: HandlerThreads | None = None,
    tell_progress: TellProgress | None = None,
    types: TypeFilter | None = None,
) -> Executor:
    """One that nobody gave a database: for handlers that open no transaction."""
    settings = settings or Settings(_env_file=None)
    start_times = StartTimes(DatabaseConnection(settings, application="test"))
    transactions = HandlerTransactions(settings, application="test", size=1, start_times=start_times)
    threads = threads or HandlerThreads(settings.worker_concurrency)
    return Executor(
        handlers,
        settings,
        transactions=transactions,
        threads=threads,
        processes=None,
        tell_progress=tell_progress or (lambda _: None),
        types=types or TypeFilter(handlers.by_type),
    )


def never_malformed(delivery: Delivery, reason: str) -> None:
    raise AssertionError(f"{delivery.work_queue}: {reason}")


def a_lease(**options: Any) -> leases.Worker:
    """What a worker tells of itself."""
    known: dict[str, Any] = {
        "handlers": "{}",
        "max_retries": 0,
        "timeout_seconds": 1,
        "lease_seconds": 60,
        "hand_back_seconds": 1,
        "host": "host",
        "pid": 1,
        "version": "0",
        "work_queues": ["*"],
        "slots": 1,
        "prefetch": 1,
    }
    return leases.Worker(**known | options)
