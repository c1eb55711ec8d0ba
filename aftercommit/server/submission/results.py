"""What became of each task of a submit. A client gets one result per task, in the order it gave them."""

from dataclasses import dataclass
from datetime import datetime

from aftercommit.db.submit import NewTask
from aftercommit.db.tasks import TaskRow


@dataclass(frozen=True, slots=True)
class Created:
    """This submit made the task."""

    task: NewTask
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Replayed:
    """An earlier submit with the same key made the task. ``row`` tells how it stands now; ``payload``, ``result`` and
    ``error`` are missing where the whole answer would be too large."""

    row: TaskRow


SubmittedTask = Created | Replayed
