"""Puts submission together: every way in submits through the same group commit and the same eager relay."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog

from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.declaration import Declarer
from aftercommit.broker.pipeline import Pipeline
from aftercommit.core.errors import DatabaseTimeout, DatabaseUnavailable
from aftercommit.core.settings import Settings
from aftercommit.db.database import Connect, Database
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.runtime.notifier import Notifier
from aftercommit.runtime.summary import summarise
from aftercommit.server.relay.eager_relay import EagerRelay
from aftercommit.server.submission.group_commit import GroupCommit
from aftercommit.server.submission.queue_fill import QueueFill
from aftercommit.server.submission.submission_queue import QueueLimits
from aftercommit.server.submission.submitter import Submitter
from aftercommit.server.submission.type_catalogue import TypeCatalogue
from aftercommit.server.submission.unique_commit import UniqueCommit

log = structlog.get_logger(__name__)

UNBLOCK_SECONDS: Final = 1.0


@asynccontextmanager
async def submission(
    settings: Settings, *, database: Database, connect: Connect, notifier: Notifier, queues: KnownQueues
) -> AsyncIterator[Submitter]:
    """A submitter for the block. At its end what was committed is given to RabbitMQ or to the relays."""
    eager = _eager_relay(settings, connect, notifier, queues) if settings.outbox_eager else None
    group_commit = GroupCommit(connect, notifier, eager, limits=_limits(settings))
    fill = QueueFill(queues, connect)
    catalogue = TypeCatalogue(settings.schema_check, connect)
    unique_commit = UniqueCommit(settings, database, notifier, limits=_limits(settings))
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(catalogue.run(stopping))
        group.create_task(fill.run(stopping))
        if eager is not None:
            group.create_task(eager.run(stopping))
            group.create_task(summarise(_tell, eager.totals, seconds=settings.log_summary_seconds, stopping=stopping))
        try:
            yield Submitter(
                settings=settings,
                database=database,
                queues=queues,
                fill=fill,
                catalogue=catalogue,
                group_commit=group_commit,
                unique_commit=unique_commit,
            )
        finally:
            await group_commit.close()
            await unique_commit.close()
            stopping.set()
    if eager is not None:
        with suppress(DatabaseUnavailable, DatabaseTimeout):
            await eager.close()


def _tell(done: Mapping[str, int]) -> None:
    log.info("relay_summary", **done)


def _limits(settings: Settings) -> QueueLimits:
    return QueueLimits(
        max_tasks=settings.submit_queue_tasks,
        max_bytes=settings.submit_queue_bytes,
        wait_seconds=settings.submit_wait_seconds,
    )


def _eager_relay(settings: Settings, connect: Connect, notifier: Notifier, queues: KnownQueues) -> EagerRelay:
    connection = BrokerConnection(settings.rabbitmq_url, name="aftercommit-eager-relay")
    return EagerRelay(
        connection=connect(),
        pipeline=Pipeline(
            connection, Declarer(connection, settings, lambda: queues.work_queues), unblock_seconds=UNBLOCK_SECONDS
        ),
        notifier=notifier,
        queues=queues,
        tasks_per_message=settings.outbox_tasks_per_message,
        grace_seconds=settings.outbox_eager_grace_seconds,
    )
