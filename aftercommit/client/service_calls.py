"""The calls about the service itself: types, workers, outbox, health."""

from collections.abc import Sequence
from typing import Final

from aftercommit.client.call import Call, Page, encode, paged, query
from aftercommit.client.results import Outbox, OutboxRow, Readiness, Result, TaskType, Worker

NOT_READY: Final = 503


class _Requeued(Result):
    requeued: int


class _Workers(Result):
    workers: tuple[Worker, ...]
    next_cursor: str | None


class _Types(Result):
    types: tuple[TaskType, ...]
    next_cursor: str | None


def list_types(*, page_size: int = 100) -> Call[Page[TaskType]]:
    """The types that workers declared, by name, ``page_size`` (up to 1000) in a request. Raises ApiError."""

    def parse(content: bytes) -> tuple[Sequence[TaskType], str | None]:
        listed = _Types.model_validate_json(content)
        return listed.types, listed.next_cursor

    return paged(Call(method="GET", path="/v1/types", query=query(limit=page_size), repeatable=True, parse=parse))


def get_type(type: str) -> Call[TaskType]:
    """What the workers' handlers take and say of themselves. Raises TypeNotFound, ApiError."""
    return Call(
        method="GET", path="/v1/types/{type}", names={"type": type}, repeatable=True, parse=TaskType.model_validate_json
    )


def list_workers(*, page_size: int = 100) -> Call[Page[Worker]]:
    """The workers that have not stopped in order, by name, ``page_size`` (up to 1000) in a request. Raises ApiError."""

    def parse(content: bytes) -> tuple[Sequence[Worker], str | None]:
        listed = _Workers.model_validate_json(content)
        return listed.workers, listed.next_cursor

    return paged(Call(method="GET", path="/v1/workers", query=query(limit=page_size), repeatable=True, parse=parse))


def get_worker(name: str) -> Call[Worker]:
    """A worker, and what it runs. Raises WorkerNotFound, ApiError."""
    return Call(
        method="GET", path="/v1/workers/{name}", names={"name": name}, repeatable=True, parse=Worker.model_validate_json
    )


def drain_worker(name: str) -> Call[Worker]:
    """Let a worker take nothing more, finish and end. Repeated safely. Raises WorkerNotFound, WorkerLost, ApiError."""
    return Call(
        method="POST",
        path="/v1/workers/{name}/drain",
        names={"name": name},
        repeatable=True,
        parse=Worker.model_validate_json,
    )


def get_outbox() -> Call[Outbox]:
    """How many tasks are not in RabbitMQ yet, and the first hundred parked rows. Raises ApiError."""
    return Call(method="GET", path="/v1/outbox", repeatable=True, parse=Outbox.model_validate_json)


def list_parked_rows(*, page_size: int = 100) -> Call[Page[OutboxRow]]:
    """Every row of the outbox that was parked, the oldest first, ``page_size`` (up to 1000) in a request. Raises
    ApiError."""

    def parse(content: bytes) -> tuple[Sequence[OutboxRow], str | None]:
        rows = Outbox.model_validate_json(content).failed_rows
        return rows, str(rows[-1].id) if len(rows) == page_size else None

    call = Call(method="GET", path="/v1/outbox", query=query(limit=page_size), repeatable=True, parse=parse)
    return paged(call, cursor="after")


def requeue(ids: Sequence[int] | None = None) -> Call[int]:
    """Give parked rows back to the relay, all of them or these; the number of their tasks. Repeated safely, but the
    number is that of the last try. Raises ApiError."""
    return Call(
        method="POST",
        path="/v1/outbox/requeue",
        body=encode({} if ids is None else {"ids": list(ids)}),
        repeatable=True,
        parse=lambda content: _Requeued.model_validate_json(content).requeued,
    )


def check_health() -> Call[None]:
    """Returns if a process of the API answers. Raises ApiError."""
    return Call(method="GET", path="/healthz", repeatable=True, parse=lambda _: None)


def get_readiness() -> Call[Readiness]:
    """Whether tasks are taken, and what is down. Raises ApiError."""
    return Call(
        method="GET",
        path="/readyz",
        repeatable=True,
        accepts=frozenset({NOT_READY}),
        parse=Readiness.model_validate_json,
    )
