"""Brings what handlers take and say of themselves into the database when a worker starts."""

import os
import socket
from collections.abc import Collection
from typing import Any

import structlog
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from aftercommit import Handler
from aftercommit.core import json_text
from aftercommit.db import queues, task_types
from aftercommit.db.database import Connect
from aftercommit.db.task_types import DeclaredType
from aftercommit.runtime.notifier import Notifier
from aftercommit.task_request import json_value

log = structlog.get_logger(__name__)


async def declare_types(handlers: Collection[Handler], connect: Connect, notifier: Notifier) -> None:
    """Declare the types of this worker's handlers, of which the last worker that starts wins, and make the queues that
    they name and that never were. Raises DatabaseUnavailable."""
    types = [declared(handler) for handler in handlers]
    async with connect() as connection:
        new = await task_types.declare(connection.fetch, types, worker=f"{socket.gethostname()}-{os.getpid()}")
        made = await queues.make_missing(connection.fetch, sorted({each.queue for each in handlers if each.queue}))
    if made:
        log.info("queues_made", queues=made)
        notifier.queues()
    if new:
        log.info("types_declared", types=new)
        notifier.types()


def declared(handler: Handler) -> DeclaredType:
    """What the database keeps of a handler."""
    options: dict[str, Any] = {
        "isolated": handler.isolated,
        "max_retries": handler.max_retries,
        "timeout_seconds": handler.timeout_seconds,
        "retry": None if handler.retry is None else json_value("retry", handler.retry),
        "queue": handler.queue,
        "priority": handler.priority,
        "schedule": None if handler.schedule is None else handler.schedule.name or handler.type,
    }
    description = handler.description
    return DeclaredType(
        handler.type,
        None if description is None else json_text.storable(description),
        _schema(handler),
        json_text.dump(options),
    )


class _Open(GenerateJsonSchema):
    """Leaves open what a JSON schema has no words for."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:  # noqa: ARG002
        return {}


def _schema(handler: Handler) -> str | None:
    """None where it cannot be written: a default of it may be no JSON."""
    try:
        schema = handler.payload_type.json_schema(schema_generator=_Open)
    except PydanticUserError:
        return None
    return None if any(json_text.find_flaws(schema)) else json_text.dump(schema)
