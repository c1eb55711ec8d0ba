"""A reference to one dispatch of a task: all that a message says about it."""

from typing import Final, NamedTuple
from uuid import UUID

MAX_REFS: Final = 1_000
"""The most in one message."""


class TaskRef(NamedTuple):
    """One task in one message. It is claimed only while the task still waits for this very dispatch."""

    task_id: UUID
    dispatch: int
