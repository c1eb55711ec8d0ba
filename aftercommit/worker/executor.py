"""Runs one claimed task: its handler, with timeout, cancellation and context."""

import asyncio
import json
from datetime import datetime
from functools import partial
from typing import Any, Final, NoReturn

import structlog

from aftercommit import Context, Fail, Handler, InvalidPayload, Snooze
from aftercommit.context import ScheduleTick
from aftercommit.core import json_text, retries
from aftercommit.core.outcomes import Outcome
from aftercommit.core.retries import RetryDelays
from aftercommit.core.settings import Settings
from aftercommit.db.claims import ClaimedTask
from aftercommit.db.progress import Progress
from aftercommit.worker import outcome_policy
from aftercommit.worker.attempt import Attempt, deadline
from aftercommit.worker.handler_threads import HandlerThreads, ThreadsExhausted
from aftercommit.worker.handler_transaction import HandlerTransaction, HandlerTransactions
from aftercommit.worker.outcome_policy import RetryPolicy
from aftercommit.worker.process_runner import ProcessDied, ProcessRunner, ProcessStuck, TellProgress
from aftercommit.worker.registry import Handlers
from aftercommit.worker.type_filter import TypeFilter

log = structlog.get_logger(__name__)


class UnknownType(Exception):
    """Another worker may have the handler, or this one after the next deploy."""


class TimedOut(TimeoutError):
    """The handler did not end within its timeout. A handler's ``retry_on`` and ``fail_on`` know it as TimeoutError."""


MOST_RELEASES: Final = 10
"""A task that was released so often is charged when its transaction loses Postgres once more: it may be the cause."""


class Executor:
    """Async handlers run on the loop, sync ones in threads; handlers that ask for it, and tasks that may be what took a
    worker down before, run in a process of their own, unless ``processes`` is None."""

    def __init__(
        self,
        handlers: Handlers,
        settings: Settings,
        *,
        transactions: HandlerTransactions,
        threads: HandlerThreads,
        processes: ProcessRunner | None,
        tell_progress: TellProgress,
        types: TypeFilter,
    ) -> None:
        self._handlers = handlers
        self._types = types
        self._settings = settings
        self._policy = RetryPolicy(settings.max_retries, settings.retry_delays_seconds)
        self._transactions = transactions
        self._threads = threads
        self._processes = processes
        self._tell_progress = tell_progress

    async def run(self, attempt: Attempt) -> Outcome:
        """Run to the end, whatever the handler does. An attempt that was cancelled and did not return ends as its
        ``cancel_reason`` says. Raises nothing but CancelledError, when the process itself is torn down."""
        handler = self._handlers.by_type.get(attempt.task.type)
        transaction = self._transactions.of(attempt) if handler is not None and handler.takes_context else None
        try:
            known = self._require(handler, attempt.task)
            if self._processes is not None and (known.isolated or attempt.task.suspect):
                return await self._run_in_process(self._processes, known, attempt)
            outcome = outcome_policy.succeeded(attempt.task, await self._run_here(known, attempt, transaction))
            if transaction is not None and transaction.ready:
                attempt.recorded = await transaction.commit(outcome)
                if not attempt.recorded:
                    # The recorder cancels the task where that is wanted, or finds that it was given away. If neither is
                    # so, it runs again.
                    outcome = outcome_policy.released(attempt.task, "its transaction could not be committed")
        except BaseException as error:  # a handler's SystemExit must not end the worker
            if _is_torn_down(attempt, error):
                raise
            return self._judge(error, handler, attempt, transaction)
        else:
            return outcome
        finally:
            if transaction is not None:
                await transaction.close()

    def _require(self, handler: Handler | None, task: ClaimedTask) -> Handler:
        if handler is None:
            self._types.switch_on()
            have = ", ".join(self._handlers.modules)
            raise UnknownType(f"no handler for {task.type!r}: {task.worker} has {have}")
        return handler

    async def _run_in_process(self, processes: ProcessRunner, handler: Handler, attempt: Attempt) -> Outcome:
        async with processes.places.hold(attempt):
            attempt.begin()
            attempt.task.started_at = attempt.clock.started_at
            seconds = self._timeout_seconds(handler, attempt.task)
            outcome, attempt.recorded = await processes.run(
                attempt.task, timeout_seconds=seconds, tell_progress=self._tell_progress
            )
            return outcome

    async def _run_here(self, handler: Handler, attempt: Attempt, transaction: HandlerTransaction | None) -> str:
        """What the handler returned, as JSON text."""
        attempt.begin()
        task, seconds = attempt.task, self._timeout_seconds(handler, attempt.task)
        context = self._context(task, seconds, handler, transaction) if transaction is not None else None
        arguments = handler.arguments(_read_payload(task), context)
        attempt.clock.arm(seconds, context)
        try:
            result = await self._call(handler, arguments, attempt)
        except BaseException as error:
            if attempt.clock.let_go(error):
                raise TimedOut(f"{task.type} did not end within {seconds:g} s") from error
            raise
        attempt.clock.let_go()
        attempt.outrun_expiry()
        return self._encode(task, result)

    async def _call(self, handler: Handler, arguments: dict[str, Any], attempt: Attempt) -> Any:
        if handler.is_async:
            attempt.cleans_up = True
            return await handler.function(**arguments)
        with self._threads.call(handler.function, arguments) as attempt.thread:
            return await asyncio.shield(attempt.thread)

    def _judge(
        self, error: BaseException, handler: Handler | None, attempt: Attempt, transaction: HandlerTransaction | None
    ) -> Outcome:
        task = attempt.task
        if attempt.cancel_reason is not None:
            return outcome_policy.cancelled(task, attempt.cancel_reason)
        if isinstance(error, UnknownType):
            return outcome_policy.unknown(task, str(error))
        if isinstance(error, ThreadsExhausted):
            return outcome_policy.released(task, str(error))
        lost_postgres = transaction is not None and error is transaction.outage
        if lost_postgres and task.attempt - task.charged < MOST_RELEASES:
            return outcome_policy.released(task, f"its transaction lost Postgres: {error}")
        if isinstance(error, Snooze):
            return outcome_policy.snoozed(task, error, policy=self._policy)
        return outcome_policy.failed(
            task,
            error,
            policy=self._policy,
            handler=handler,
            own_delays=_read_own_delays(task),
            raised=not (lost_postgres or isinstance(error, (ProcessDied, ProcessStuck))),
        )

    def _timeout_seconds(self, handler: Handler, task: ClaimedTask) -> float:
        return task.timeout_seconds or handler.timeout_seconds or self._settings.task_timeout_seconds

    def _context(self, task: ClaimedTask, seconds: float, handler: Handler, transaction: HandlerTransaction) -> Context:
        return Context(
            task_id=task.id,
            type=task.type,
            queue=task.queue,
            priority=task.priority,
            attempt=task.attempt,
            tags=tuple(task.tags),
            created_at=task.created_at,
            deadline=deadline(task.started_at, seconds, task.expires_at),
            expires_at=task.expires_at,
            logger=log.bind(task_id=str(task.id), type=task.type, queue=task.queue, attempt=task.attempt),
            transaction=transaction.open if handler.is_async else _no_transaction,
            report_progress=partial(self._report_progress, task),
            schedule=_schedule_tick(task.schedule) if task.schedule is not None else None,
        )

    def _report_progress(self, task: ClaimedTask, fraction: float | None, message: str | None) -> None:
        text = json_text.storable(message) if message is not None else None
        self._tell_progress(Progress(task.id, task.attempt, fraction, text))

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


def _is_torn_down(attempt: Attempt, error: BaseException) -> bool:
    """Whether the attempt was cancelled from outside without a reason: the event loop is being closed."""
    current = asyncio.current_task()
    outside = current is not None and current.cancelling() > 0
    return isinstance(error, asyncio.CancelledError) and attempt.cancel_reason is None and outside


def _read_own_delays(task: ClaimedTask) -> RetryDelays | None:
    """What the task's ``retry`` says. None leaves it to its handler and the settings: it says nothing, or what only
    another release understands."""
    if task.retry is None:
        return None
    try:
        return retries.read_delays(task.retry)
    except ValueError as error:
        log.warning("retry_delays_unreadable", task_id=str(task.id), type=task.type, error=str(error))
        return None


def _read_payload(task: ClaimedTask) -> dict[str, Any]:
    """Raises InvalidPayload for what Postgres takes for JSON and Python cannot read, or what is no object."""
    if task.payload == "{}":  # as most have that need none; to read it takes longer than all checks
        return {}
    try:
        payload = json.loads(task.payload)
    except (ValueError, RecursionError) as error:
        raise InvalidPayload(f"the payload of {task.type} cannot be read: {error}") from None
    if not isinstance(payload, dict):
        raise InvalidPayload(f"the payload of {task.type} is not a JSON object")
    return payload


def _schedule_tick(text: str) -> ScheduleTick:
    made_by = json.loads(text)
    return ScheduleTick(
        name=made_by["name"],
        tick=datetime.fromisoformat(made_by["tick"]),
        folded=made_by["folded"],
        kind=made_by["kind"],
    )


def _no_transaction() -> NoReturn:
    raise RuntimeError("context.transaction() needs an async handler")
