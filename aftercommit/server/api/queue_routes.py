"""``/v1/queues``: what waits where."""

from typing import Final

from fastapi import APIRouter

from aftercommit.server.api.dependencies import Injected
from aftercommit.server.api.problems import responses
from aftercommit.server.api.schemas import QueuesOut

router: Final = APIRouter(prefix="/v1/queues", tags=["queues"])


@router.get("", responses=responses())
async def list_queues(dependencies: Injected) -> QueuesOut:
    """Every work queue. When the broker is down its columns are null and ``broker`` says why."""
    return await dependencies.queues.get()
