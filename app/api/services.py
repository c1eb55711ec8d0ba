"""What the routes need, built once per process and handed to them by FastAPI."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncEngine

from app.api.watch import CompletionWatch
from app.broker.inspection import Inspector
from app.config import Settings
from app.db.signals import OutboxSignal


@dataclass(frozen=True, slots=True)
class Services:
    settings: Settings
    engine: AsyncEngine
    outbox_signal: OutboxSignal
    watch: CompletionWatch
    inspector: Inspector
    migration_head: str


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Served = Annotated[Services, Depends(_services)]
