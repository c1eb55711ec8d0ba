"""Brings the schedules that handlers declare into the database when a worker starts."""

import asyncio
import os
import socket
from collections.abc import Iterable, Sequence
from typing import Any, Final

import structlog
from uuid_utils.compat import uuid7

from aftercommit import Handler
from aftercommit.core import json_text
from aftercommit.core.schedules import CatchUp, Overlap, Policy, Timing
from aftercommit.db import schedules
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.schedules import ScheduleRow, ScheduleSpec, timing_of
from aftercommit.recurring import Recurrence
from aftercommit.runtime.failures_in_a_row import FailuresInARow
from aftercommit.runtime.notifier import Notifier
from aftercommit.runtime.poll import backoff_seconds, first_of

log = structlog.get_logger(__name__)

_DEFINITION: Final = ("task", "catch_up", "catch_up_max", "catch_up_seconds", "overlap")


class DeclaredSchedules:
    """The schedules of this worker's handlers."""

    def __init__(
        self, handlers: Iterable[Handler], modules: Sequence[str], connection: DatabaseConnection, notifier: Notifier
    ) -> None:
        self._specs = [spec_of(handler, handler.schedule) for handler in handlers if handler.schedule is not None]
        self._modules = modules
        self._connection = connection
        self._notifier = notifier

    async def run(self, stopping: asyncio.Event) -> None:
        """Declare them once, as soon as that can be done. An error is logged and does not end the worker: its tasks
        need no schedule."""
        failures = FailuresInARow("declare_schedules")
        async with self._connection:
            while not stopping.is_set():
                try:
                    await self._declare_all()
                except Exception as error:
                    failures.log(error)
                    await first_of(stopping, timeout_seconds=backoff_seconds(failures.count))
                else:
                    return

    async def _declare_all(self) -> None:
        for spec in self._specs:
            if await self._declare(spec):
                self._notifier.due()
        before = await schedules.declared_in(self._connection.fetch, self._modules)
        for name in before.keys() - {spec.name for spec in self._specs}:
            # Left to a person: an older worker that starts again must not delete what a newer one declares.
            log.warning("schedule_no_longer_declared", schedule=name, module=before[name])

    async def _declare(self, spec: ScheduleSpec) -> bool:
        """Create or change one schedule; whether that was needed. The ticks of one that is the same go on."""
        async with self._connection.transaction() as fetch:
            row = await schedules.lock(fetch, spec.name)
            if row is None:
                first = await schedules.first_tick(fetch, spec)
                row = await schedules.create(fetch, uuid7(), spec, first)
                if row is None:  # another worker was faster
                    return False
                change = "created"
            elif row["declared_in"] is None:
                log.warning("schedule_not_declared", schedule=spec.name, module=spec.declared_in)
                return False
            elif _is_same(row, spec):
                await schedules.note_declarer(fetch, row["id"], spec)
                return False
            else:
                first = await schedules.first_tick(fetch, spec, schedule_id=row["id"])
                await schedules.replace(fetch, row["id"], spec, first)
                change = "changed"
        log.info("schedule_declared", schedule=spec.name, module=spec.declared_in, change=change)
        return True


def spec_of(handler: Handler, recurrence: Recurrence) -> ScheduleSpec:
    """The schedule that a handler declares, as the database keeps it."""
    template: dict[str, Any] = {"type": handler.type, "payload": dict(recurrence.payload)}
    template |= {"queue": recurrence.queue or handler.queue, "priority": recurrence.priority}
    return ScheduleSpec(
        name=recurrence.name or handler.type,
        timing=Timing(
            cron=recurrence.cron_line,
            zone=recurrence.zone_name,
            interval_seconds=recurrence.interval_seconds,
            jitter_seconds=recurrence.jitter_seconds,
        ),
        policy=Policy(
            catch_up=CatchUp(recurrence.catch_up),
            catch_up_max=recurrence.catch_up_max,
            catch_up_seconds=recurrence.catch_up_seconds,
            overlap=Overlap(recurrence.overlap),
        ),
        task=json_text.dump(template),
        declared_in=handler.function.__module__,
        declared_by=f"{socket.gethostname()}-{os.getpid()}",
    )


def _is_same(row: ScheduleRow, spec: ScheduleSpec) -> bool:
    policy = spec.policy
    definition = (spec.task, policy.catch_up, policy.catch_up_max, policy.catch_up_seconds, policy.overlap)
    return timing_of(row) == spec.timing and tuple(row[name] for name in _DEFINITION) == definition
