"""What became of each task of a submit. A client gets one result per task, in the order it gave them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from aftercommit.db.submit import NewTask
from aftercommit.db.tasks import TaskRow


class Fate(StrEnum):
    """``CREATED``: this submit made the task. ``EXISTING``: it holds the unique key, and is left as it is.
    ``REPLACED``: it holds the unique key, and is now what this submit wanted. ``REPLAYED``: an earlier submit with the
    same Idempotency-Key gave it."""

    CREATED = "created"
    EXISTING = "existing"
    REPLACED = "replaced"
    REPLAYED = "replayed"


@dataclass(frozen=True, slots=True)
class Created:
    """This submit made the task."""

    task: NewTask
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Known:
    """The task was there before. ``row`` tells how it stands now; ``payload``, ``result`` and ``error`` are missing
    where the whole answer would be too large."""

    row: TaskRow
    fate: Fate


SubmittedTask = Created | Known
