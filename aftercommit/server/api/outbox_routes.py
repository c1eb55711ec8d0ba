"""``/v1/outbox``: what is committed and not yet in RabbitMQ."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from aftercommit.db import outbox_counts
from aftercommit.server.api.body import documented, json_body
from aftercommit.server.api.dependencies import Injected
from aftercommit.server.api.problems import BODY_ERRORS, responses
from aftercommit.server.api.schemas import OutboxOut, OutboxRowOut, RequeuedOut, RequeueIn

router: Final = APIRouter(prefix="/v1/outbox", tags=["outbox"])


class OutboxQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    after: Annotated[int, Field(ge=0, le=2**63 - 1)] = Field(default=0, description="Parked rows above this id")
    limit: Annotated[int, Field(ge=1, le=1000)] = Field(default=100, description="How many parked rows to list")


@router.get("", responses=responses())
async def get_outbox(query: Annotated[OutboxQuery, Query()], dependencies: Injected) -> OutboxOut:
    """How many tasks wait and how long, and the rows that were parked as FAILED because no queue takes them."""
    async with dependencies.database.transaction() as fetch:
        counts = await outbox_counts.count(fetch)
        parked = await outbox_counts.list_failed(fetch, after=query.after, limit=query.limit)
    return OutboxOut(
        unpublished=counts["unpublished"],
        oldest_age_seconds=counts["oldest_age_seconds"],
        failed=counts["failed"],
        failed_rows=[OutboxRowOut.model_validate(dict(row)) for row in parked],
    )


@router.post("/requeue", responses=responses(*BODY_ERRORS), openapi_extra=documented(RequeueIn))
async def requeue(wanted: Annotated[RequeueIn, Depends(json_body(RequeueIn))], dependencies: Injected) -> RequeuedOut:
    """Give parked rows to the relay again, with all their attempts before them."""
    requeued = await outbox_counts.requeue(dependencies.database.fetch, wanted.ids)
    dependencies.notifier.outbox()
    return RequeuedOut(requeued=requeued)
