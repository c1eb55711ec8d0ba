"""What the routes need, built once per process and handed to them by FastAPI."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncEngine

from app.api.submissions import Submissions
from app.api.watch import CompletionWatch
from app.broker.inspection import Inspector
from app.broker.management import Management
from app.config import Settings
from app.db.signals import OutboxSignal


@dataclass(frozen=True, slots=True)
class Services:
    settings: Settings
    engine: AsyncEngine
    outbox_signal: OutboxSignal
    submissions: Submissions
    watch: CompletionWatch
    inspector: Inspector
    management: Management | None


async def _services(request: Request) -> Services:
    # async: FastAPI would call a sync one in a thread
    services: Services = request.app.state.services
    return services


Served = Annotated[Services, Depends(_services)]
