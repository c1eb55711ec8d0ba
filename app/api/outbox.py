"""``/v1/outbox``: what is committed and not yet in RabbitMQ."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from app.api.body import documented, json_body
from app.api.problems import BODY_ERRORS, responses
from app.api.schemas import OutboxOut, OutboxRowOut, RequeuedOut, RequeueIn
from app.api.services import Served
from app.db import outbox
from app.db.engine import transaction, within

router: Final = APIRouter(prefix="/v1/outbox", tags=["outbox"])


class OutboxQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    after: Annotated[int, Field(ge=0, le=2**63 - 1)] = Field(default=0, description="Parked rows above this id")
    limit: Annotated[int, Field(ge=1, le=1000)] = Field(default=100, description="How many parked rows to list")


@router.get("", responses=responses())
async def get_outbox(query: Annotated[OutboxQuery, Query()], services: Served) -> OutboxOut:
    """How many rows wait and how long, and the rows that were parked as FAILED because no queue takes them."""
    async with transaction(services.engine) as connection:
        counts = await outbox.count(within(connection))
        parked = await outbox.list_failed(within(connection), after=query.after, limit=query.limit)
    return OutboxOut(
        unpublished=counts.unpublished,
        oldest_age_seconds=counts.oldest_age_seconds,
        failed=counts.failed,
        failed_rows=[OutboxRowOut.model_validate(row) for row in parked],
    )


@router.post("/requeue", responses=responses(*BODY_ERRORS), openapi_extra=documented(RequeueIn))
async def requeue(wanted: Annotated[RequeueIn, Depends(json_body(RequeueIn))], services: Served) -> RequeuedOut:
    """Give parked rows to the relay again, with all their attempts before them."""
    async with transaction(services.engine) as connection:
        requeued = await outbox.requeue(within(connection), wanted.ids)
    services.outbox_signal.send()
    return RequeuedOut(requeued=requeued)
