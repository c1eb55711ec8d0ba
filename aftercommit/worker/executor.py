"""Runs one claimed task: its handler, with timeout, cancellation and context."""

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, NoReturn

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from aftercommit import Context, Fail, Handler
from aftercommit.core import json_text
from aftercommit.core.outcomes import Outcome
from aftercommit.core.settings import Settings
from aftercommit.db.claims import ClaimedTask
from aftercommit.worker import outcome_policy
from aftercommit.worker.handler_transaction import HandlerTransaction
from aftercommit.worker.outcome_policy import RetryPolicy
from aftercommit.worker.process_runner import ProcessRunner
from aftercommit.worker.registry import Handlers

log = structlog.get_logger(__name__)


class UnknownType(Exception):
    """Another worker may have the handler, or this one after the next deploy: so it is retried."""


class TimedOut(Exception):
    """The handler did not end within its timeout."""


class ThreadsExhausted(Exception):
    """This process cannot start another thread: something leaks them."""


MOST_RELEASES: Final = 10
"""A task that was released so often is charged when its transaction loses Postgres once more: it may be the cause."""


@dataclass(slots=True)
class Execution:
    """One attempt under way.

    ``recorded``: its own transaction recorded it. ``thread`` is what a sync handler runs in; it may outlive the
    attempt.
    """

    task: ClaimedTask
    recorded: bool = False
    thread: asyncio.Future[Any] | None = None


class Executor:
    """Async handlers run on the loop, sync ones in threads, of which there are as many as slots; handlers that ask for
    it, and tasks that may be what took a worker down before, run in a process of their own.

    A thread cannot be killed: when a sync handler times out its attempt ends, but its slot stays taken until the
    function returns. When the process can start no more threads, ``on_exhausted`` is called: only a new one will do.
    """

    def __init__(
        self,
        handlers: Handlers,
        settings: Settings,
        *,
        engine: AsyncEngine,
        isolation: ProcessRunner | None,
        on_exhausted: Callable[[], None] | None = None,
    ) -> None:
        self._handlers = handlers
        self._settings = settings
        self._policy = RetryPolicy(settings.max_retries, settings.retry_delays_seconds)
        self._engine = engine
        self._isolation = isolation
        self._on_exhausted = on_exhausted
        self._threads = ThreadPoolExecutor(settings.worker_concurrency, thread_name_prefix="handler")

    async def run(self, execution: Execution) -> Outcome:
        """Run to the end, whatever the handler does. Cancelled from outside, the attempt is released uncharged."""
        task = execution.task
        handler = self._handlers.by_type.get(task.type)
        transaction = HandlerTransaction(self._engine) if handler is not None and handler.takes_context else None
        try:
            return await self._run(handler, execution, transaction)
        except asyncio.CancelledError as error:
            if (current := asyncio.current_task()) is not None and current.cancelling():
                return outcome_policy.released(task, "the worker stopped before the attempt could finish")
            return self._fail(task, handler, error)
        except ThreadsExhausted as error:
            return outcome_policy.released(task, str(error))
        except BaseException as error:  # a handler's SystemExit must not end the worker
            lost_postgres = transaction is not None and error is transaction.outage
            if lost_postgres and task.attempt - task.charged < MOST_RELEASES:
                return outcome_policy.released(task, f"its transaction lost Postgres: {error}")
            return self._fail(task, handler, error)
        finally:
            if transaction is not None:
                await transaction.close()

    async def _run(
        self, handler: Handler | None, execution: Execution, transaction: HandlerTransaction | None
    ) -> Outcome:
        task = execution.task
        if handler is None:
            have = ", ".join(self._handlers.modules)
            raise UnknownType(f"no handler for {task.type!r} here; this worker has {have}")
        if self._isolation is not None and (handler.isolated or task.suspect):
            seconds = self._timeout(task, handler)
            outcome, execution.recorded = await self._isolation.run(task, timeout_seconds=seconds)
            return outcome
        outcome = outcome_policy.succeeded(task, await self._call(handler, execution, transaction))
        if transaction is not None and transaction.ready:
            # When the task was given away the outcome goes on to the recorder, where it is refused again, and told.
            execution.recorded = await transaction.commit(outcome)
        return outcome

    def _fail(self, task: ClaimedTask, handler: Handler | None, error: BaseException) -> Outcome:
        own = handler.max_retries if handler else None
        return outcome_policy.failed(task, error, policy=self._policy, max_retries=own)

    def _timeout(self, task: ClaimedTask, handler: Handler) -> float:
        return task.timeout_seconds or handler.timeout_seconds or self._settings.task_timeout_seconds

    async def _call(self, handler: Handler, execution: Execution, transaction: HandlerTransaction | None) -> str:
        task = execution.task
        seconds = self._timeout(task, handler)
        context = _context(task, seconds, handler, transaction) if transaction is not None else None
        arguments = handler.arguments(task.payload, context)
        try:
            async with asyncio.timeout(seconds) as timer:
                if handler.is_async:
                    result = await handler.function(**arguments)
                else:
                    execution.thread = self._start_thread(handler, arguments)
                    result = await asyncio.shield(execution.thread)
        except TimeoutError as error:
            if timer.expired():
                raise TimedOut(f"{task.type} did not end within {seconds:g} s") from error
            raise
        return self._encode(task, result)

    def _start_thread(self, handler: Handler, arguments: dict[str, Any]) -> asyncio.Future[Any]:
        call = functools.partial(contextvars.copy_context().run, handler.function, **arguments)
        try:
            return asyncio.get_running_loop().run_in_executor(self._threads, call)
        except RuntimeError as error:
            # The pool has the call in its queue even so, from which no thread may take it later.
            self._threads.shutdown(wait=False, cancel_futures=True)
            if self._on_exhausted is None:
                raise
            self._on_exhausted()
            raise ThreadsExhausted(f"the worker cannot start a thread and stops: {error}") from error

    def _encode(self, task: ClaimedTask, result: Any) -> str:
        try:
            text = json_text.dump(result)
            size = len(text.encode())
        except (TypeError, ValueError, RecursionError) as error:
            raise Fail(f"{task.type} returned something that is not JSON: {error}") from None
        if size > self._settings.worker_max_result_bytes:
            limit = self._settings.worker_max_result_bytes
            raise Fail(f"{task.type} returned {size} bytes of JSON; WORKER_MAX_RESULT_BYTES allows {limit}")
        return text

    def close(self) -> None:
        """Take no more calls. Those under way go on, and keep their threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _context(task: ClaimedTask, seconds: float, handler: Handler, transaction: HandlerTransaction) -> Context:
    return Context(
        task_id=task.id,
        type=task.type,
        queue=task.queue,
        priority=task.priority,
        attempt=task.attempt,
        tags=tuple(task.tags),
        created_at=task.created_at,
        deadline=task.started_at + timedelta(seconds=seconds),
        logger=log.bind(task_id=str(task.id), type=task.type, queue=task.queue, attempt=task.attempt),
        transaction=transaction.open if handler.is_async else _no_transaction,
    )


def _no_transaction() -> NoReturn:
    raise RuntimeError("context.transaction() needs an async handler")
