"""From a schedule's template to the tasks of its ticks."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

from pydantic import ValidationError
from uuid_utils.compat import uuid7

from aftercommit.core import json_text
from aftercommit.core.schedules import RunKind
from aftercommit.db.schedules import ScheduleRow
from aftercommit.db.submit import NewTask
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.server.submission.submitter import Submitter, TasksRefused
from aftercommit.server.submission.task_input import TaskIn


class TemplateRefused(Exception):
    """The template cannot be submitted here any more; the text says why."""


@dataclass(frozen=True, slots=True)
class Template:
    """``prototype`` has all that the tasks of one schedule have in common."""

    schedule: str
    prototype: NewTask
    payload_bytes: int

    @classmethod
    def of(cls, row: ScheduleRow, *, queues: KnownQueues) -> Self:
        """Read a schedule's template anew: what it was checked for may be gone. Raises TemplateRefused."""
        try:
            wanted = TaskIn.model_validate_json(row["task"])
            (prototype,), payload_bytes = Submitter.prepare([wanted], queues=queues, most_bytes=None)
        except ValidationError as error:
            flaw = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, flaw["loc"]))
            raise TemplateRefused(f"{where or 'task'}: {flaw['msg']}") from None
        except TasksRefused as error:
            raise TemplateRefused(f"{error.flaws[0].field}: {error.flaws[0].detail}") from None
        return cls(row["name"], prototype, payload_bytes)

    def task(self, tick: datetime, *, kind: RunKind, folded: int = 0) -> NewTask:
        """A task for ``tick``, which stands for ``folded`` earlier ticks too."""
        made_by = {"name": self.schedule, "tick": tick.isoformat(), "folded": folded, "kind": kind}
        return replace(self.prototype, id=uuid7(), schedule=json_text.dump(made_by))

    def at_once(self, most: int, most_bytes: int) -> int:
        """How many of its tasks may be made together: ``most``, or as many as have ``most_bytes``, but one."""
        return max(1, min(most, most_bytes // max(self.payload_bytes, 1)))
