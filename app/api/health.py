"""``/healthz`` and ``/readyz``. A broker that is down does not make the API unready: it still takes tasks."""

import asyncio
from typing import Final

from fastapi import APIRouter, Response

from app.api.schemas import ReadyOut
from app.api.services import Served, Services
from app.db import migrations
from app.db.engine import single_statement
from app.errors import BrokerUnavailable, DatabaseUnavailable

router: Final = APIRouter(tags=["health"])

UP: Final = "up"


@router.get("/healthz", status_code=204)
async def healthz() -> Response:
    """The process answers."""
    return Response(status_code=204)


@router.get("/readyz", responses={503: {"model": ReadyOut, "description": "Postgres is down or not migrated"}})
async def readyz(services: Served, response: Response) -> ReadyOut:
    """Whether tasks can be taken; names what is down."""
    (postgres, migrated), broker = await asyncio.gather(_database(services), _broker(services))
    taking = postgres == UP and migrated == UP
    if not taking:
        response.status_code = 503
    status = "not ready" if not taking else "ready" if broker == UP else "degraded"
    return ReadyOut(status=status, postgres=postgres, migrations=migrated, broker=broker)


async def _database(services: Services) -> tuple[str, str]:
    try:
        async with single_statement(services.engine) as connection:
            current = await migrations.current(connection)
    except DatabaseUnavailable as error:
        return error.detail, "unknown"
    if current is None or current < migrations.HEAD:
        return UP, f"at {current}, this code needs {migrations.HEAD}: run alembic upgrade head"
    return UP, UP


async def _broker(services: Services) -> str:
    try:
        await services.inspector.check()
    except BrokerUnavailable as error:
        return error.detail
    return UP
