"""A handler with the options of a submit: ``send_email.with_options(priority="high")``."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from typing_extensions import ParamSpec

from aftercommit.task_request import Submitter, TaskOptions, TaskRequest

P = ParamSpec("P", default=...)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ConfiguredHandler(Generic[P]):
    """``payload`` makes a payload of a handler's arguments, and raises InvalidPayload."""

    type: str
    payload: Callable[P, dict[str, Any]]
    options: TaskOptions

    def request(self, *args: P.args, **kwargs: P.kwargs) -> TaskRequest:
        """The task that a call with these arguments is. Raises InvalidPayload that names each field."""
        return TaskRequest(self.type, self.payload(*args, **kwargs), self.options)

    def submit(self, client: Submitter[T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Submit that task; what ``client`` answers. With an AsyncClient: await it. Raises InvalidPayload before
        anything is sent."""
        return client.submit(self.request(*args, **kwargs))
