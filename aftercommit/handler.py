"""A handler: the function that runs a task type, with its options and the shape of its payload."""

import inspect
import re
from collections.abc import Callable
from typing import Any, Concatenate, Final, Generic, NotRequired, Protocol, Unpack, get_args, get_type_hints, overload

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_core import PydanticSerializationError

# pydantic reads typing's own TypedDict only from Python 3.12 on; typing's own type variables have no defaults.
from typing_extensions import ParamSpec, TypedDict, TypeVar

from aftercommit.configured_handler import ConfiguredHandler
from aftercommit.context import Context
from aftercommit.errors import InvalidPayload, Retry
from aftercommit.recurring import NAME_PATTERN, Recurrence
from aftercommit.retry_delays import Backoff, Delays
from aftercommit.task_request import PRIORITIES, QUEUE_PATTERN, PriorityName, Submitter, TaskOptions, TaskRequest

TYPE_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9_.:/-]{0,199}$"
LONGEST_TIMEOUT_SECONDS: Final = 604_800
"""A week."""

Exceptions = tuple[type[BaseException], ...]

P = ParamSpec("P", default=...)
"""The parameters that make up the payload."""

R = TypeVar("R", default=Any)
T = TypeVar("T")


class Handler(Generic[P, R]):
    """A decorated function. It can still be called as before, in tests for instance; ``submit`` has a worker call it.

    ``timeout_seconds``, ``max_retries`` and ``retry``, its delays, are None where the settings decide; a task's own
    option wins over both. ``queue`` and ``priority`` are where its submits go that name none. ``payload_type`` is the
    shape of its payload.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        type: str,
        timeout_seconds: float | None,
        max_retries: int | None,
        isolated: bool,
        queue: str | None = None,
        priority: PriorityName | None = None,
        retry: Delays | Backoff | None = None,
        retry_on: Exceptions | None = None,
        fail_on: Exceptions = (),
        schedule: Recurrence | None = None,
    ) -> None:
        self.function = function
        self.type = type
        self.timeout_seconds = timeout_seconds
        self.max_retries = max_retries
        self.isolated = isolated
        self.queue = queue
        self.priority = priority
        self.retry = retry
        self.retry_on = retry_on
        self.fail_on = fail_on
        self.schedule = schedule
        self.is_async = inspect.iscoroutinefunction(function)
        self._context_parameter, self.payload_type = _read_signature(function, type)
        self._positional = [
            name
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and name != self._context_parameter
        ]

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        result: R = self.function(*args, **kwargs)
        return result

    def __repr__(self) -> str:
        return f"<handler of {self.type}: {self.function.__module__}.{self.function.__qualname__}>"

    @property
    def description(self) -> str | None:
        """The first paragraph of the function's docstring."""
        text = inspect.getdoc(self.function)
        return text.split("\n\n")[0] if text else None

    @property
    def takes_context(self) -> bool:
        return self._context_parameter is not None

    def gives_up_on(self, error: BaseException) -> bool:
        """Whether ``error``, raised by the function, fails the task for good by ``fail_on`` and ``retry_on``."""
        if isinstance(error, self.fail_on):
            return True
        return self.retry_on is not None and not isinstance(error, (*self.retry_on, Retry))

    def arguments(self, payload: dict[str, Any], context: Context | None) -> dict[str, Any]:
        """The keyword arguments of a call. ``context`` is left out where the handler takes none.

        Raises InvalidPayload that names each field that does not fit.
        """
        try:
            arguments: dict[str, Any] = dict(self.payload_type.validate_python(payload))
        except ValidationError as error:
            raise self._misfit(error) from None
        if self._context_parameter is not None:
            arguments[self._context_parameter] = context
        return arguments

    def payload(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """The payload, in JSON values, of which a worker makes these arguments; the context is none of them.

        Raises InvalidPayload that names each field that does not fit, TypeError for too many positional arguments or
        one that is given twice.
        """
        if len(args) > len(self._positional):
            raise TypeError(f"{self.type} takes {len(self._positional)} arguments by position, {len(args)} were given")
        by_position = dict(zip(self._positional, args, strict=False))
        if twice := by_position.keys() & kwargs.keys():
            raise TypeError(f"{self.type} was given {', '.join(sorted(twice))} twice")
        try:
            checked = self.payload_type.validate_python({**by_position, **kwargs})
            written: dict[str, Any] = self.payload_type.dump_python(
                checked, mode="json", by_alias=True, round_trip=True
            )
        except ValidationError as error:
            raise self._misfit(error) from None
        except PydanticSerializationError as error:
            raise InvalidPayload(f"the payload of {self.type} cannot be written as JSON: {error}") from None
        return written

    def with_options(self, **options: Unpack[TaskOptions]) -> ConfiguredHandler[P]:
        """This handler with the options of a submit."""
        return ConfiguredHandler(self.type, self.payload, options)

    def request(self, *args: P.args, **kwargs: P.kwargs) -> TaskRequest:
        """The task that a call with these arguments is, to be submitted. Raises InvalidPayload."""
        return self.with_options().request(*args, **kwargs)

    def submit(self, client: Submitter[T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Submit a task that calls this handler with these arguments; what ``client`` answers. With an AsyncClient:
        await it. Raises InvalidPayload before anything is sent."""
        return self.with_options().submit(client, *args, **kwargs)

    def _misfit(self, error: ValidationError) -> InvalidPayload:
        flaws = "; ".join(_describe(flaw) for flaw in error.errors(include_url=False))
        return InvalidPayload(f"the payload does not fit {self.type}: {flaws}")


class _Anything:
    """What a first parameter takes that has no annotation, or is annotated Any or object."""


class _Decorator(Protocol):
    """A first parameter ``context: Context`` is not part of the payload. Type checkers can leave out no other one."""

    @overload
    def __call__(self, function: Callable[Concatenate[_Anything, ...], R], /) -> Handler[..., R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], R], /) -> Handler[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Handler[P, R]: ...


def task(
    type: str,
    *,
    timeout_seconds: float | None = None,
    max_retries: int | None = None,
    isolated: bool = False,
    queue: str | None = None,
    priority: PriorityName | None = None,
    retry: Delays | Backoff | None = None,
    retry_on: Exceptions | None = None,
    fail_on: Exceptions = (),
    schedule: Recurrence | None = None,
) -> _Decorator:
    """Make an async or a sync function the handler of ``type``.

    Its parameters are the payload's keys, checked with pydantic at the call; one annotated ``Context`` gets the
    context instead, and should be the first one, so that type checkers can check submits. What it returns must be JSON
    and becomes the task's result. ``isolated`` runs each attempt in a process of its own, which is killed when it does
    not end at its timeout: for code that may crash, hang or eat memory, at the price of some tens of milliseconds.
    ``schedule``, a ``Cron`` or an ``Every``, has the task submitted again and again; a worker that has the handler
    declares it when it starts.

    ``queue`` and ``priority`` are where a submit goes that names none. A worker that has the handler tells so when it
    starts, and makes the queue if it was never there; that the queue is served is up to WORKER_QUEUES.

    ``retry`` says how long retries wait. An exception of ``fail_on`` fails the task at once; with ``retry_on`` every
    exception does that is in neither it nor a Retry. A timeout is a TimeoutError.

    Raises ValueError or TypeError at import for options or a signature that cannot work.
    """
    if not re.fullmatch(TYPE_PATTERN, type):
        raise ValueError(f"{type!r} is not a task type: a letter, then up to 199 of letters, digits and _ . : / -")
    if timeout_seconds is not None and not 0 < timeout_seconds <= LONGEST_TIMEOUT_SECONDS:
        raise ValueError(
            f"timeout_seconds of {type} is {timeout_seconds!r}: give seconds above 0, up to {LONGEST_TIMEOUT_SECONDS}"
        )
    if max_retries is not None and max_retries < 0:
        raise ValueError(f"max_retries of {type} is {max_retries!r}: give a whole number from 0 on")
    if queue is not None and not re.fullmatch(QUEUE_PATTERN, queue):
        raise ValueError(f"queue of {type} is {queue!r}: give a small letter, then up to 62 of a-z, 0-9, _ and -")
    if priority not in (None, *PRIORITIES):
        raise ValueError(f"priority of {type} is {priority!r}: give high, medium or low")
    if retry is not None and not isinstance(retry, (Delays, Backoff)):
        raise TypeError(f"retry of {type} is {retry!r}: give Delays(…) or Backoff(…)")
    _check_exceptions(f"retry_on of {type}", retry_on or ())
    _check_exceptions(f"fail_on of {type}", fail_on)

    if schedule is not None and schedule.name is None and not re.fullmatch(NAME_PATTERN, type):
        raise ValueError(f"the schedule of {type} cannot be named like it: give it a name=")

    def decorate(function: Callable[..., Any]) -> Any:
        return Handler(
            function,
            type=type,
            timeout_seconds=timeout_seconds,
            max_retries=max_retries,
            isolated=isolated,
            queue=queue,
            priority=priority,
            retry=retry,
            retry_on=retry_on,
            fail_on=fail_on,
            schedule=schedule,
        )

    return decorate


def _check_exceptions(name: str, kinds: object) -> None:
    if not isinstance(kinds, tuple) or not all(
        isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds
    ):
        raise TypeError(f"{name} is {kinds!r}: give a tuple of exception classes")


def _read_signature(function: Callable[..., Any], type: str) -> tuple[str | None, TypeAdapter[Any]]:
    """The name of the context's parameter, and the payload's shape as a TypedDict.

    A TypedDict, not a model: its keys may be named like anything, and absent ones stay absent, so that the
    function's own defaults apply.
    """
    hints = get_type_hints(function, include_extras=True)
    context_parameter: str | None = None
    fields: dict[str, Any] = {}
    extra = False
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints.get(name, Any)
        if hint is Context or Context in get_args(hint):
            context_parameter = name
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            extra = True
        elif parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY):
            raise TypeError(f"the handler of {type} takes {name!r} by position; payload keys are given by name")
        else:
            fields[name] = hint if parameter.default is inspect.Parameter.empty else NotRequired[hint]
    config = ConfigDict(extra="allow" if extra else "forbid")
    payload = with_config(config)(TypedDict("Payload", fields))  # type: ignore[operator]  # built at run time
    try:
        return context_parameter, TypeAdapter(payload)
    except PydanticSchemaGenerationError as error:
        raise TypeError(f"the handler of {type} has a parameter that pydantic cannot check: {error}") from None


def _describe(flaw: Any) -> str:
    return f"{'.'.join(str(part) for part in flaw['loc']) or 'payload'}: {flaw['msg']}"
