"""``/healthz`` and ``/readyz``. A broker that is down does not make the API unready: it still takes tasks."""

import asyncio
from typing import Final

from fastapi import APIRouter, Response

from aftercommit.core.errors import BrokerUnavailable, DatabaseTimeout, DatabaseUnavailable
from aftercommit.db import schema_version
from aftercommit.server.api.dependencies import Dependencies, Injected
from aftercommit.server.api.schemas import ReadyOut

router: Final = APIRouter(tags=["health"])

UP: Final = "up"


@router.get("/healthz", status_code=204)
async def healthz() -> Response:
    """The process answers."""
    return Response(status_code=204)


@router.get("/readyz", responses={503: {"model": ReadyOut, "description": "Postgres is down or not migrated"}})
async def readyz(dependencies: Injected, response: Response) -> ReadyOut:
    """Whether tasks can be taken; names what is down."""
    (postgres, migrated), broker = await asyncio.gather(_database(dependencies), _broker(dependencies))
    taking = postgres == UP and migrated == UP
    if not taking:
        response.status_code = 503
    status = "not ready" if not taking else "ready" if broker == UP else "degraded"
    return ReadyOut(status=status, postgres=postgres, migrations=migrated, broker=broker)


async def _database(dependencies: Dependencies) -> tuple[str, str]:
    try:
        current = await schema_version.current(dependencies.database.fetch)
    except (DatabaseUnavailable, DatabaseTimeout) as error:
        return error.detail, "unknown"
    if current is None or current < schema_version.HEAD:
        return UP, f"at {current}, this code needs {schema_version.HEAD}: run the migrations"
    return UP, UP


async def _broker(dependencies: Dependencies) -> str:
    try:
        await dependencies.inspector.check()
    except BrokerUnavailable as error:
        return error.detail
    return UP
