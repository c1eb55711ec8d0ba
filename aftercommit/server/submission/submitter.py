"""The submit: from described tasks to committed rows, or to those of the earlier submit that holds the key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from uuid_utils.compat import uuid7

from aftercommit.core import json_text
from aftercommit.core.errors import DatabaseUnavailable, IdempotencyKeyReused, QueueFull, TasksDeleted
from aftercommit.core.features import Feature
from aftercommit.core.queues import Priority
from aftercommit.core.settings import Settings
from aftercommit.core.uniqueness import Uniqueness
from aftercommit.db import idempotency, tasks
from aftercommit.db.database import Database
from aftercommit.db.submit import IdempotencyKey, NewTask, Submission
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.server.submission.deadlines import deadline_flaw
from aftercommit.server.submission.group_commit import GroupCommit
from aftercommit.server.submission.queue_fill import QueueFill
from aftercommit.server.submission.queue_rules import apply_defaults, queue_flaws
from aftercommit.server.submission.results import Created, Fate, Known, SubmittedTask
from aftercommit.server.submission.submission_queue import CallerGone
from aftercommit.server.submission.task_input import TaskIn, too_large
from aftercommit.server.submission.type_catalogue import Route, TypeCatalogue
from aftercommit.server.submission.unique_commit import UniqueCommit, UniqueKeysHeld
from aftercommit.server.submission.unique_key import field_flaws, uniqueness

_TRIES: Final = 2
NO_ROUTES: Final[Mapping[str, Route]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class TaskFlaw:
    """What is wrong with ``field`` of the task at ``index``."""

    index: int
    field: str
    detail: str


class TasksRefused(Exception):
    """Some tasks do not fit this installation; nothing was submitted."""

    def __init__(self, flaws: Sequence[TaskFlaw]) -> None:
        super().__init__(f"{len(flaws)} flaws, the first: {flaws[0]}")
        self.flaws = tuple(flaws)


class Submitter:
    """Submits tasks for every way in."""

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        queues: KnownQueues,
        fill: QueueFill,
        catalogue: TypeCatalogue,
        group_commit: GroupCommit,
        unique_commit: UniqueCommit,
    ) -> None:
        self._settings = settings
        self._queues = queues
        self._fill = fill
        self._catalogue = catalogue
        self._database = database
        self._group_commit = group_commit
        self._unique_commit = unique_commit

    async def submit(
        self, wanted: Sequence[TaskIn], *, key: IdempotencyKey | None = None, caller_gone: CallerGone | None = None
    ) -> list[SubmittedTask]:
        """Commit the tasks, all or none; a result for each, in their order.

        When an earlier submit with the same ``key`` and request made tasks, nothing is made and those come back, even
        if they would be refused by now. Raises TasksRefused, QueueFull, IdempotencyKeyReused, TasksDeleted, and what
        ``GroupCommit.submit`` and, for tasks with unique keys, ``UniqueCommit.submit`` raise.
        """
        try:
            return await self._submit(wanted, key, caller_gone)
        except (TasksRefused, QueueFull, UniqueKeysHeld):
            # What the earlier submit made may hold the unique key; and its deadline may have passed since.
            if key is None or (replayed := await self._replay(key)) is None:
                raise
            return replayed

    async def _submit(
        self, wanted: Sequence[TaskIn], key: IdempotencyKey | None, caller_gone: CallerGone | None
    ) -> list[SubmittedTask]:
        self.check_types(wanted)
        if any(task.queue is not None and task.queue not in self._queues.by_name for task in wanted):
            await self._queues.refresh(self._database.fetch)  # another process may just have made it
        limit = self._settings.api_max_payload_bytes
        new, payload_bytes = self.prepare(wanted, queues=self._queues, most_bytes=limit, routes=self._catalogue.routes)
        if self._queues.bounded:
            self._fill.check(new)
        submission = Submission(new, key)
        for _ in range(_TRIES):
            if any(task.unique is not None for task in new):
                submitted = await self._unique_commit.submit(submission, payload_bytes=payload_bytes)
                if submitted is not None:
                    return submitted
            else:
                created_at = await self._group_commit.submit(
                    submission, payload_bytes=payload_bytes, caller_gone=caller_gone
                )
                if created_at is not None:
                    return [Created(task, created_at) for task in new]
            assert key is not None
            if (replayed := await self._replay(key)) is not None:
                return replayed
            # The key was pruned between the two statements, so it is free now.
        raise DatabaseUnavailable("The Idempotency-Key was held and free by turns. Try again.")

    def check_types(self, wanted: Sequence[TaskIn]) -> None:
        """Raises TasksRefused for tasks that do not fit what workers declared, where SCHEMA_CHECK says so."""
        if flaws := [
            TaskFlaw(index, *flaw) for index, task in enumerate(wanted) for flaw in self._catalogue.flaws(task)
        ]:
            raise TasksRefused(flaws)

    @staticmethod
    def prepare(
        wanted: Sequence[TaskIn],
        *,
        queues: KnownQueues,
        most_bytes: int | None,
        routes: Mapping[str, Route] = NO_ROUTES,
    ) -> tuple[list[NewTask], int]:
        """Give each task its id and defaults; also the bytes of all payloads, each of which may have ``most_bytes``
        (None: as many as it likes, also where its queue has a limit).
        Raises TasksRefused."""
        flaws: list[TaskFlaw] = []
        new = []
        now = datetime.now(UTC)
        payload_bytes = 0
        plain = queues.plain
        for index, task in enumerate(wanted):
            payload = json_text.dump(task.payload)
            queue, priority = task.queue or queues.default, task.priority
            if routes and (route := routes.get(task.type)) is not None:
                queue, priority = _routed(task, route, queues)
            size = len(payload.encode())
            payload_bytes += size
            if most_bytes is not None and size > most_bytes:
                flaws.append(TaskFlaw(index, "payload", too_large(size, most_bytes)))
            if queue not in plain:
                flaws += [
                    TaskFlaw(index, *flaw)
                    for flaw in queue_flaws(task, queue, queues, priority=priority, size=most_bytes and size)
                ]
            if (flaw := deadline_flaw(task, now)) is not None:
                flaws.append(TaskFlaw(index, *flaw))
            unique = None if task.unique is None else _uniqueness(index, task, queue, flaws)
            new.append(
                NewTask(
                    id=uuid7(),
                    type=task.type,
                    payload=payload,
                    queue=queue,
                    priority=priority,
                    max_retries=task.max_retries,
                    timeout_seconds=task.timeout_seconds,
                    tags=tuple(dict.fromkeys(task.tags)),
                    run_at=task.run_at,
                    delay=task.delay,
                    expires_at=task.expires_at,
                    expires_in=task.expires_in,
                    retry=task.retry_text,
                    result_ttl_seconds=task.result_ttl_seconds,
                    unique=unique,
                    features=Feature.PLAIN if unique is None else Feature.UNIQUE,
                )
            )
        if flaws:
            raise TasksRefused(flaws)
        if len(plain) < len(queues.by_name):
            apply_defaults(new, queues)
        return new, payload_bytes

    async def _replay(self, key: IdempotencyKey) -> list[SubmittedTask] | None:
        """The tasks of the earlier submit that holds ``key``, as they stand now; None when nobody holds it any more."""
        fetch = self._database.fetch
        held = await idempotency.get(fetch, key.key)
        if held is None:
            return None
        if held["request_hash"] != key.request_hash:
            raise IdempotencyKeyReused(
                f"Idempotency-Key {key.key!r} came with another body before. Use a new key for a new request."
            )
        ids = held["task_ids"]
        rows = await tasks.get_within(fetch, ids, max_bytes=self._settings.api_max_page_bytes)
        if len(rows) < len(ids):
            raise TasksDeleted(
                f"Retention deleted {len(ids) - len(rows)} of the {len(ids)} tasks that Idempotency-Key {key.key!r} "
                "stands for. Nothing was submitted. Use a new key for a new request."
            )
        return [Known(row, Fate.REPLAYED) for row in rows]


def _routed(task: TaskIn, route: Route, queues: KnownQueues) -> tuple[str, Priority]:
    """The queue and the priority of a task whose type says where it goes: as far as it names none itself, and the queue
    is there."""
    options = queues.by_name.get(route.queue) if route.queue is not None else None
    there = options is not None and not options.deleting
    queue = task.queue or (route.queue if there else None) or queues.default
    named = route.priority is None or "priority" in task.model_fields_set
    return queue, task.priority if named or route.priority is None else route.priority


def _uniqueness(index: int, task: TaskIn, queue: str, flaws: list[TaskFlaw]) -> Uniqueness | None:
    """What the task says of its unique key. None, with the reasons in ``flaws``, when its payload has not what it is
    made of."""
    assert task.unique is not None
    found = [
        TaskFlaw(index, f"unique/fields/{position}", detail)
        for position, detail in field_flaws(task.unique, task.payload)
    ]
    flaws += found
    return None if found else uniqueness(task.unique, type=task.type, queue=queue, payload=task.payload)
