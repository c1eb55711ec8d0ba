"""Runs one attempt in this process, and nothing else: what ``ProcessRunner`` calls in the process that it made."""

from collections.abc import Callable

from aftercommit.core.outcomes import Outcome
from aftercommit.core.settings import Settings
from aftercommit.db.claims import ClaimedTask
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.progress import Progress
from aftercommit.worker.attempt import Attempt
from aftercommit.worker.executor import Executor
from aftercommit.worker.handler_threads import HandlerThreads
from aftercommit.worker.handler_transaction import HandlerTransactions
from aftercommit.worker.registry import opened_handlers
from aftercommit.worker.start_times import StartTimes
from aftercommit.worker.type_filter import TypeFilter


async def run_isolated(
    settings: Settings, task: ClaimedTask, tell_progress: Callable[[Progress], None]
) -> tuple[Outcome, bool]:
    """The outcome, and whether the attempt's own transaction recorded it."""
    async with opened_handlers(settings) as handlers:
        # With a single attempt nobody waits for a place: the connection is never opened.
        start_times = StartTimes(DatabaseConnection(settings, application="isolated"))
        transactions = HandlerTransactions(settings, application="isolated", size=1, start_times=start_times)
        executor = Executor(
            handlers,
            settings,
            transactions=transactions,
            threads=HandlerThreads(1),
            processes=None,
            tell_progress=tell_progress,
            types=TypeFilter(handlers.by_type),
        )
        attempt = Attempt(task)
        outcome = await executor.run(attempt)
        await transactions.close()
    return outcome, attempt.recorded
