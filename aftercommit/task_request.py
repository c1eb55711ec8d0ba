"""A task to submit, before anything brings it to the service."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, Protocol, TypedDict, TypeVar, get_args

from aftercommit.retry_delays import Backoff, Delays

QUEUE_PATTERN: Final = r"^[a-z][a-z0-9_-]{0,62}$"
"""Of a queue's name. No dots: the retry exchanges bind ``*.<priority>``, and ``*`` stands for exactly one word."""

PriorityName = Literal["high", "medium", "low"]
PRIORITIES: Final[tuple[PriorityName, ...]] = get_args(PriorityName)

UniqueOptions = TypedDict(
    "UniqueOptions",
    {
        "key": str,
        "fields": list[str] | tuple[str, ...],
        "scope": Literal["type", "queue", "global"],
        "while": Literal["waiting", "unfinished"],
        "for_seconds": float,
        "on_conflict": Literal["return_existing", "reject", "replace"],
        "at_most_seconds": float,
    },
    total=False,
)
"""A unique key: ``key`` or ``fields``, and what the HTTP API's ``unique`` has besides."""


class TaskOptions(TypedDict, total=False):
    """What a submit may say beside type and payload. None, or left out: the default."""

    queue: str | None
    priority: PriorityName
    max_retries: int | None
    timeout_seconds: float | None
    tags: list[str] | tuple[str, ...]
    retry: Delays | Backoff | None
    result_ttl_seconds: float | None
    run_at: datetime | None
    delay_seconds: float | None
    expires_at: datetime | None
    expires_in_seconds: float | None
    unique: UniqueOptions | None


OPTIONS: Final = TaskOptions.__optional_keys__


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """``payload`` has JSON values only. Raises TypeError for an option that there is not."""

    type: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    options: TaskOptions = field(default_factory=TaskOptions)

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.options) - OPTIONS):
            raise TypeError(f"a task has no option {', '.join(unknown)}: there are {', '.join(sorted(OPTIONS))}")

    def fields(self) -> dict[str, Any]:
        """The JSON object that the HTTP API takes. Raises ValueError for a time without a zone."""
        given = {name: json_value(name, value) for name, value in self.options.items() if value is not None}
        return {"type": self.type, "payload": dict(self.payload), **given}


def json_value(name: str, value: object) -> object:
    """An option's ``value`` as JSON has it. Raises ValueError for a time without a zone."""
    match value:
        case datetime():
            return written_out(name, value)
        case Delays():
            return {"delays_seconds": list(value.seconds)}
        case Backoff():
            return {"backoff": asdict(value)}
        case _:
            return value


def written_out(name: str, moment: datetime) -> str:
    """``moment`` as the HTTP API takes it. Raises ValueError when it has no time zone."""
    if moment.utcoffset() is None:
        raise ValueError(f"{name} is {moment!r}: give it a time zone, such as datetime.now(UTC) has")
    return moment.isoformat()


T_co = TypeVar("T_co", covariant=True)


class Submitter(Protocol[T_co]):
    """Takes a request to the service: a client, or what submits in a transaction. An asynchronous one answers with
    something to await."""

    def submit(self, request: TaskRequest, /) -> T_co: ...
