"""``/v1/queues``: what there is and what waits where; making, changing, pausing and deleting a queue while everything
runs."""

import re
from contextlib import suppress
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Response
from uuid_utils.compat import uuid7

from aftercommit.core.errors import BrokerUnavailable, PurgeNotFound, QueueInUse, QueueNotFound
from aftercommit.core.queue_options import DeleteMode
from aftercommit.db import queue_clearing, queues
from aftercommit.db.queues import QueueRow
from aftercommit.server.api.body import documented, json_body
from aftercommit.server.api.dependencies import Dependencies, Injected
from aftercommit.server.api.problems import BODY_ERRORS, responses
from aftercommit.server.api.queue_overview import bounded
from aftercommit.server.api.queue_schemas import (
    DeleteQuery,
    PauseIn,
    PurgeIn,
    PurgeOut,
    QueueDetailOut,
    QueueIn,
    QueueOut,
)
from aftercommit.server.api.schemas import QueuesOut
from aftercommit.task_request import QUEUE_PATTERN

MOST_COUNTED: Final = 10_000

router: Final = APIRouter(prefix="/v1/queues", tags=["queues"])

NewName = Annotated[str, Path(pattern=QUEUE_PATTERN, examples=["emails"])]
NameInPath = Annotated[str, Path(examples=["emails"])]
"""What is no queue's name is not found."""


@router.get("", responses=responses())
async def list_queues(dependencies: Injected) -> QueuesOut:
    """Every work queue. When the broker is down its columns are null and ``broker`` says why."""
    return await dependencies.queues.get()


@router.get("/{name}", responses=responses(QueueNotFound))
async def get_queue(name: NameInPath, dependencies: Injected) -> QueueDetailOut:
    """One queue: its options, and what stands in each of its priorities."""
    row = _found(name, await _get(name, dependencies), dependencies)
    overview = await dependencies.queues.get()
    options = _out(row, dependencies)
    return QueueDetailOut(
        **options.model_dump(), work_queues=[each for each in overview.queues if each.name.partition(".")[0] == name]
    )


@router.put(
    "/{name}",
    responses={201: {"model": QueueOut, "description": "It is new"}, **responses(QueueInUse, *BODY_ERRORS)},
    openapi_extra=documented(QueueIn),
)
async def put_queue(
    name: NewName,
    wanted: Annotated[QueueIn, Depends(json_body(QueueIn))],
    dependencies: Injected,
    response: Response,
) -> QueueOut:
    """Make a queue, or give it these options. Everything that runs follows within a second."""
    put = await queues.put(dependencies.database.fetch, wanted.options(name))
    if put is None:
        raise QueueInUse(f"{name} is being deleted. Make it anew when GET /v1/queues/{name} finds it no more.")
    row, is_new = put
    if is_new:
        await dependencies.known_queues.refresh(dependencies.database.fetch)
        # Before workers hear of it, and its first task comes. If RabbitMQ is away, the relays declare it later.
        with suppress(BrokerUnavailable, TimeoutError):
            await bounded(dependencies.declarer.declare_new())
        response.status_code = 201
    await _tell(dependencies)
    return _out(row, dependencies)


@router.delete("/{name}", status_code=202, responses=responses(QueueNotFound, QueueInUse))
async def delete_queue(name: NameInPath, query: Annotated[DeleteQuery, Query()], dependencies: Injected) -> QueueOut:
    """Close a queue for good: it takes nothing and starts nothing from now on. It is gone once maintenance has moved
    its unfinished tasks, or has cancelled them and their code has stopped."""
    fetch = dependencies.database.fetch
    _found(name, await _get(name, dependencies), dependencies)
    if name == dependencies.known_queues.default:
        raise QueueInUse(f"{name} is where submits go that name no queue: it is the first of QUEUES.")
    if query.mode is DeleteMode.REFUSE and (count := await queues.unfinished(fetch, name, most=MOST_COUNTED)):
        raise QueueInUse(
            f"{name} has {count if count < MOST_COUNTED else f'over {MOST_COUNTED}'} unfinished tasks. "
            "Say what becomes of them: ?move_to=<queue>, or ?cancel=true."
        )
    if query.move_to is not None:
        target = _found(query.move_to, await queues.get(fetch, query.move_to), dependencies)
        if target.deleting_at is not None or query.move_to == name:
            raise QueueInUse(f"Tasks cannot be moved to {query.move_to}: it is being deleted itself.")
    row = _found(name, await queues.begin_delete(fetch, name, query.mode, move_to=query.move_to), dependencies)
    await _tell(dependencies)
    return _out(row, dependencies)


@router.post(
    "/{name}/pause", responses=responses(QueueNotFound, *BODY_ERRORS), openapi_extra=documented(PauseIn, required=False)
)
async def pause_queue(
    name: NameInPath, wanted: Annotated[PauseIn, Depends(json_body(PauseIn, required=False))], dependencies: Injected
) -> QueueOut:
    """Let no task of it start anywhere, within a second. It takes tasks as before; what runs goes on."""
    _found(name, await _get(name, dependencies), dependencies)
    row = _found(name, await queues.pause(dependencies.database.fetch, name, by=wanted.by), dependencies)
    await _tell(dependencies)
    return _out(row, dependencies)


@router.post("/{name}/resume", responses=responses(QueueNotFound))
async def resume_queue(name: NameInPath, dependencies: Injected) -> QueueOut:
    """End a pause. A queue that is not paused stays as it is."""
    _found(name, await _get(name, dependencies), dependencies)
    row = _found(name, await queues.resume(dependencies.database.fetch, name), dependencies)
    await _tell(dependencies)
    return _out(row, dependencies)


@router.post(
    "/{name}/purge",
    status_code=202,
    responses=responses(QueueNotFound, *BODY_ERRORS),
    openapi_extra=documented(PurgeIn),
)
async def purge_queue(
    name: NameInPath, wanted: Annotated[PurgeIn, Depends(json_body(PurgeIn))], dependencies: Injected
) -> PurgeOut:
    """Cancel what waits in a queue; maintenance does it, in batches. What runs goes on, and what is scheduled stays."""
    fetch = dependencies.database.fetch
    _found(name, await _get(name, dependencies), dependencies)
    matching = await queue_clearing.count_matching(
        fetch,
        name,
        priority=wanted.priority,
        type=wanted.type,
        older_than_seconds=wanted.older_than_seconds,
        most=MOST_COUNTED,
    )
    if wanted.dry_run:
        return PurgeOut(id=None, queue=name, matching=matching, cancelled=0, asked_at=None, ended_at=None)
    row = await queue_clearing.ask_purge(
        fetch,
        uuid7(),
        name,
        priority=wanted.priority,
        type=wanted.type,
        older_than_seconds=wanted.older_than_seconds,
    )
    return PurgeOut.model_validate({**row, "matching": matching})


@router.get("/{name}/purges/{purge_id}", responses=responses(QueueNotFound, PurgeNotFound))
async def get_purge(name: NameInPath, purge_id: UUID, dependencies: Injected) -> PurgeOut:
    """How far a purge is. It is forgotten after a week."""
    _found(name, await _get(name, dependencies), dependencies)
    row = await queue_clearing.get_purge(dependencies.database.fetch, purge_id, name)
    if row is None:
        raise PurgeNotFound(f"There is no purge {purge_id} of {name}.")
    return PurgeOut.model_validate({**row, "matching": None})


async def _tell(dependencies: Dependencies) -> None:
    dependencies.notifier.queues()
    await dependencies.known_queues.refresh(dependencies.database.fetch)


def _out(row: QueueRow, dependencies: Dependencies) -> QueueOut:
    return QueueOut.of(row, default=dependencies.known_queues.default)


async def _get(name: str, dependencies: Dependencies) -> QueueRow | None:
    return await queues.get(dependencies.database.fetch, name) if re.fullmatch(QUEUE_PATTERN, name) else None


def _found(name: str, row: QueueRow | None, dependencies: Dependencies) -> QueueRow:
    if row is None:
        known = ", ".join(dependencies.known_queues.by_name)
        raise QueueNotFound(f"There is no queue {name!r}. There are {known}; PUT /v1/queues/{name} makes one.")
    return row
