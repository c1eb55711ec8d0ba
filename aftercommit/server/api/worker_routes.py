"""``/v1/workers``: who there is, what each runs, and how one is drained."""

import re
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query

from aftercommit.core.errors import WorkerLost, WorkerNotFound
from aftercommit.db import worker_views
from aftercommit.server.api.dependencies import Dependencies, Injected
from aftercommit.server.api.problems import responses
from aftercommit.server.api.worker_schemas import WorkerDetailOut, WorkerOut, WorkersOut, WorkersQuery, WorkerTaskOut

router: Final = APIRouter(prefix="/v1/workers", tags=["workers"])

NAME_PATTERN: Final = r"[!-~]{1,300}"
NameInPath = Annotated[str, Path(examples=["host-1-4711-0d9f4c5b"])]
"""What is no worker's name is not found."""


@router.get("", responses=responses())
async def list_workers(query: Annotated[WorkersQuery, Query()], dependencies: Injected) -> WorkersOut:
    """The workers that have not stopped in order, by name, a page at a time."""
    rows = await worker_views.list_page(dependencies.database.fetch, after=query.cursor, limit=query.limit + 1)
    page = [WorkerOut.model_validate(dict(row)) for row in rows[: query.limit]]
    return WorkersOut(workers=page, next_cursor=page[-1].name if len(rows) > query.limit else None)


@router.get("/{name}", responses=responses(WorkerNotFound))
async def get_worker(name: NameInPath, dependencies: Injected) -> WorkerDetailOut:
    """One worker, and what it runs."""
    fetch = dependencies.database.fetch
    row = await _found(name, dependencies)
    tasks = [WorkerTaskOut.model_validate(dict(task)) for task in await worker_views.runs(fetch, name)]
    return WorkerDetailOut.model_validate({**row, "tasks": tasks})


@router.post("/{name}/drain", status_code=202, responses=responses(WorkerNotFound, WorkerLost))
async def drain_worker(name: NameInPath, dependencies: Injected) -> WorkerOut:
    """Let a worker take nothing more, finish what it runs, however long that takes, and end. It hears of it with its
    next heartbeat."""
    fetch = dependencies.database.fetch
    await _found(name, dependencies)
    drained = await worker_views.drain(fetch, name)
    row = await _found(name, dependencies)
    if not drained:
        raise WorkerLost(f"The lease of {name} has lapsed: there is nobody to be told. What it ran is run by others.")
    return WorkerOut.model_validate(dict(row))


async def _found(name: str, dependencies: Dependencies) -> Any:
    row = await worker_views.get(dependencies.database.fetch, name) if re.fullmatch(NAME_PATTERN, name) else None
    if row is None:
        raise WorkerNotFound(f"There is no worker {name!r}. GET /v1/workers lists those there are.")
    return row
