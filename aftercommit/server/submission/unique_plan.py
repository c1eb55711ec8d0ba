"""What a request with unique keys comes to, once it is known who holds them. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, assert_never
from uuid import UUID

from aftercommit.core.uniqueness import OnConflict
from aftercommit.db.submit import NewTask
from aftercommit.db.unique_keys import Holder
from aftercommit.server.submission.results import Fate


@dataclass(frozen=True, slots=True)
class HeldKey:
    """The task at ``index`` is refused: ``task_id`` holds its key; None: another task of the same request does."""

    index: int
    task_id: UUID | None


@dataclass(slots=True)
class Plan:
    """``new`` tasks are inserted, and ``replacements`` take the place of waiting ones; both by id. ``answers`` has the
    id and the fate of each task of the request, in their order, unless some are ``refused``: then nothing is done."""

    new: dict[UUID, NewTask] = field(default_factory=dict)
    replacements: dict[UUID, NewTask] = field(default_factory=dict)
    answers: list[tuple[UUID, Fate]] = field(default_factory=list)
    refused: list[HeldKey] = field(default_factory=list)


def make_plan(wanted: Sequence[NewTask], held: Mapping[bytes, Holder], *, now: datetime) -> Plan:
    """The plan for one request at ``now``, the time of its transaction. Of tasks of the request with one key the first
    makes the task, and the others find it held."""
    planner = _Planner(held, now)
    for index, task in enumerate(wanted):
        planner.add(index, task)
    return planner.plan


class _Planner:
    def __init__(self, held: Mapping[bytes, Holder], now: datetime) -> None:
        self.plan: Final = Plan()
        self._held = dict(held)
        self._now = now

    def add(self, index: int, task: NewTask) -> None:
        unique = task.unique
        if unique is None or (holder := self._held.get(unique.key)) is None:
            self._create(task)
            return
        match unique.on_conflict:
            case OnConflict.REJECT:
                own = holder.task_id in self.plan.new
                self.plan.refused.append(HeldKey(index, None if own else holder.task_id))
            case OnConflict.REPLACE if holder.waits:
                self._replace(holder, task)
            case OnConflict.REPLACE | OnConflict.RETURN_EXISTING:
                self.plan.answers.append((holder.task_id, Fate.EXISTING))
            case _:
                assert_never(unique.on_conflict)

    def _create(self, task: NewTask) -> None:
        self.plan.new[task.id] = self._in_time(task, since=self._now)
        self.plan.answers.append((task.id, Fate.CREATED))
        if task.unique is not None:
            self._held[task.unique.key] = Holder(task.unique.key, task.id, self._now, waits=True)

    def _replace(self, holder: Holder, task: NewTask) -> None:
        task_id = holder.task_id
        content = replace(self._in_time(task, since=holder.held_since), id=task_id)
        if (first := self.plan.new.get(task_id)) is not None:
            self.plan.new[task_id] = replace(content, unique=first.unique)
        else:
            self.plan.replacements[task_id] = content
        self.plan.answers.append((task_id, Fate.REPLACED))

    def _in_time(self, task: NewTask, *, since: datetime) -> NewTask:
        """The task, due no later than its ``at_most`` after ``since``: submits that come again and again, each with a
        delay, put it off no further."""
        due_at = task.due_at(self._now)
        if task.unique is None or task.unique.at_most is None or due_at is None:
            return task
        latest = since + task.unique.at_most
        return replace(task, run_at=latest, delay=None) if due_at > latest else task
