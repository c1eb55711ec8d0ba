"""``/healthz`` and ``/readyz``. A broker that is down does not make the API unready: it still takes tasks."""

from typing import Final

from fastapi import APIRouter, Response

from aftercommit.server.api.dependencies import Injected
from aftercommit.server.api.readiness import UP
from aftercommit.server.api.schemas import ReadyOut

router: Final = APIRouter(tags=["health"])


@router.get("/healthz", status_code=204)
async def healthz() -> Response:
    """The process answers."""
    return Response(status_code=204)


@router.get("/readyz", responses={503: {"model": ReadyOut, "description": "Postgres is down or not migrated"}})
async def readyz(dependencies: Injected, response: Response) -> ReadyOut:
    """Whether tasks can be taken; names what is down. Answers at once, with what a check found within some seconds."""
    known = dependencies.readiness
    taking = known.postgres == UP and known.migrations == UP
    if not taking:
        response.status_code = 503
    status = "not ready" if not taking else "ready" if known.broker == UP else "degraded"
    return ReadyOut(status=status, postgres=known.postgres, migrations=known.migrations, broker=known.broker)
