"""The calls about queues."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypedDict, Unpack
from uuid import UUID

from aftercommit.client.call import Call, encode, query
from aftercommit.client.results import Purge, Queue, Queues

QUEUES: Final = "/v1/queues"
QUEUE: Final = "/v1/queues/{name}"


class QueueOptions(TypedDict, total=False):
    """What the HTTP API says of them; what is left out has its default."""

    description: str
    priorities: Sequence[str]
    types: Sequence[str]
    max_waiting: int
    max_payload_bytes: int
    max_retries: int
    retry: Mapping[str, Any]
    timeout_seconds: float
    ordering: Literal["strict", "weighted"]
    weights: Mapping[str, int]
    max_running: int
    rate_per_second: float
    burst: int


def list_queues() -> Call[Queues]:
    """Every work queue, and what is wrong with the broker. Raises ApiError."""
    return Call(method="GET", path=QUEUES, repeatable=True, parse=Queues.model_validate_json)


def get_queue(name: str) -> Call[Queue]:
    """The options of a queue, and what stands in its work queues. Raises QueueNotFound, ApiError."""
    return _call("GET", QUEUE, name)


def put_queue(name: str, /, **options: Unpack[QueueOptions]) -> Call[Queue]:
    """Make a queue, or give it these options and no others. Repeated safely. Raises QueueInUse while it is being
    deleted, ApiError."""
    return _call("PUT", QUEUE, name, body=encode(dict(options)))


def delete_queue(name: str, *, move_to: str | None = None, cancel: bool = False) -> Call[Queue]:
    """Close a queue for good; its unfinished tasks are moved or cancelled. It is gone some time later. Raises
    QueueInUse, QueueNotFound, ApiError."""
    return Call(
        method="DELETE",
        path=QUEUE,
        names={"name": name},
        query=query(move_to=move_to, cancel="true" if cancel else None),
        repeatable=False,
        parse=Queue.model_validate_json,
    )


def pause_queue(name: str, *, by: str | None = None) -> Call[Queue]:
    """Let no task of it start anywhere. Repeated safely. Raises QueueNotFound, ApiError."""
    return _call("POST", f"{QUEUE}/pause", name, body=encode({} if by is None else {"by": by}))


def resume_queue(name: str) -> Call[Queue]:
    """End a pause. Repeated safely. Raises QueueNotFound, ApiError."""
    return _call("POST", f"{QUEUE}/resume", name)


def purge_queue(
    name: str,
    *,
    priority: str | None = None,
    type: str | None = None,
    older_than_seconds: float = 0,
    dry_run: bool = False,
) -> Call[Purge]:
    """Cancel what waits in a queue, or say how much that is. It is done some time later. Raises QueueNotFound,
    ApiError."""
    wanted = {"priority": priority, "type": type, "older_than_seconds": older_than_seconds, "dry_run": dry_run}
    return Call(
        method="POST",
        path=f"{QUEUE}/purge",
        names={"name": name},
        body=encode(wanted),
        repeatable=True,
        parse=Purge.model_validate_json,
    )


def get_purge(name: str, purge_id: UUID | str) -> Call[Purge]:
    """How far a purge is. Raises PurgeNotFound, ApiError."""
    return Call(
        method="GET",
        path=f"{QUEUE}/purges/{{purge_id}}",
        names={"name": name, "purge_id": str(purge_id)},
        repeatable=True,
        parse=Purge.model_validate_json,
    )


def _call(method: str, path: str, name: str, *, body: bytes | None = None) -> Call[Queue]:
    return Call(
        method=method,
        path=path,
        names={"name": name},
        body=body,
        repeatable=True,
        parse=Queue.model_validate_json,
    )
