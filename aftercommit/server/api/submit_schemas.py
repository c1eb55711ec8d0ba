"""What a submit is answered with."""

from typing import Final

from pydantic import Field

from aftercommit.server.api.schemas import Output
from aftercommit.server.api.task_schemas import ListedTaskOut, TaskOut
from aftercommit.server.submission.results import Fate

_FATE: Final = "What the submit did: created a task, or found the existing one, replaced it, or was replayed"


class SubmittedTaskOut(TaskOut):
    """A task as it stands now, and what the submit did."""

    submission: Fate = Field(description=_FATE)


class ListedSubmittedTaskOut(ListedTaskOut):
    """A task as it stands now, and what the submit did. What has no room in the answer is left out."""

    submission: Fate = Field(description=_FATE)


class SubmittedTasksOut(Output):
    tasks: list[ListedSubmittedTaskOut] = Field(
        description="Tasks that were there before come without payload, result and error where they would have more of "
        "them than API_MAX_PAGE_BYTES"
    )
