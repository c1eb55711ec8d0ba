"""The task types that workers declared, and whether tasks fit them: kept in the process, so that a submit asks nobody.

What a worker declares is known here a moment later, by a notification, or after POLL_SECONDS without one.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, NoReturn

import jsonschema_rs
import structlog

from aftercommit.core.errors import DatabaseUnavailable
from aftercommit.core.json_text import escape_pointer
from aftercommit.core.queues import Priority
from aftercommit.core.setting_types import SchemaCheck
from aftercommit.db import task_types
from aftercommit.db.database import Connect, Fetch
from aftercommit.db.notifications import TYPES_CHANNEL
from aftercommit.runtime.listener import listen
from aftercommit.runtime.poll import poll
from aftercommit.server.submission.task_input import TaskIn

log = structlog.get_logger(__name__)

POLL_SECONDS: Final = 5.0
MOST_FLAWS: Final = 20
MOST_NAMED: Final = 20
WARN_SECONDS: Final = 60.0
"""How often a type is warned of."""

Flaw = tuple[str, str]
"""The pointer of a field, without its ``#/``, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a submit goes that names no ``queue``, or no ``priority``. None: as without it."""

    queue: str | None
    priority: Priority | None


class TypeCatalogue:
    def __init__(self, mode: SchemaCheck, connect: Connect) -> None:
        self.refuses: Final = mode is SchemaCheck.REJECT
        self._off = mode is SchemaCheck.OFF
        self._connect = connect
        self._versions: dict[str, int] | None = None
        self._validators: dict[str, jsonschema_rs.Validator | None] = {}
        self.routes: Final[dict[str, Route]] = {}
        """Of the types that say where they go."""

        self._warned_at: dict[str, float] = {}
        self._wake = asyncio.Event()

    async def run(self, stopping: asyncio.Event) -> None:
        """Follow what workers declare, until ``stopping``."""
        async with self._connect() as connection, asyncio.TaskGroup() as group:
            group.create_task(listen(self._connect(), TYPES_CHANNEL, self._wake, stopping=stopping))

            async def follow() -> float:
                await self.refresh(connection.fetch)
                return POLL_SECONDS

            await poll("follow_types", follow, stopping=stopping, wake=self._wake)

    async def refresh(self, fetch: Fetch) -> None:
        """Read what has changed. Raises DatabaseUnavailable."""
        known = self._versions or {}
        versions = await task_types.versions(fetch)
        if changed := [type for type, version in versions.items() if known.get(type) != version]:
            for row in await task_types.details(fetch, changed):
                self._take(row["type"], row["schema"], row["queue"], row["priority"])
        for gone in known.keys() - versions.keys():
            self._validators.pop(gone, None)
            self.routes.pop(gone, None)
        self._versions = versions

    def _take(self, type: str, schema: str | None, queue: str | None, priority: str | None) -> None:
        self._validators[type] = None if self._off else _compiled(type, schema)
        self.routes.pop(type, None)
        if queue is not None or priority is not None:
            self.routes[type] = Route(queue, None if priority is None else Priority(priority))

    def flaws(self, task: TaskIn) -> list[Flaw]:
        """What refuses ``task``: its type is unknown, or its payload does not fit. A submit that is only warned of has
        no flaw, and is logged. Raises DatabaseUnavailable while nothing is known yet."""
        if self._off:
            return []
        if self._versions is None:
            if self.refuses:
                raise DatabaseUnavailable("The declared task types are not known yet. Try again.")
            return []
        if not (found := list(self._find(task))):
            return []
        if self.refuses:
            return found
        self._warn(task.type, found[0])
        return []

    def _find(self, task: TaskIn) -> Iterator[Flaw]:
        try:
            validator = self._validators[task.type]
        except KeyError:
            yield "type", f"no worker has declared {task.type!r}: {_named(self._validators)}"
            return
        if validator is None or validator.is_valid(task.payload):
            return
        for error in islice(validator.iter_errors(task.payload), MOST_FLAWS):
            where = "/".join(["payload", *(escape_pointer(str(part)) for part in error.instance_path)])
            yield where, f"{error.message}, as {task.type} takes it"

    def _warn(self, type: str, flaw: Flaw) -> None:
        now = time.monotonic()
        if now - self._warned_at.get(type, -WARN_SECONDS) < WARN_SECONDS:
            return
        if len(self._warned_at) > len(self._validators) + MOST_NAMED:  # types are the callers' own words
            self._warned_at.clear()
        self._warned_at[type] = now
        field, detail = flaw
        log.warning("submit_does_not_fit", type=type, field=field, problem=detail)


def _compiled(type: str, schema: str | None) -> jsonschema_rs.Validator | None:
    """None: anything fits."""
    if schema is None:
        return None
    try:
        # The values themselves do not belong into messages: a payload may hold secrets.
        return jsonschema_rs.validator_for(schema, mask="this value", retriever=_retrieve_nothing)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        log.warning("schema_unusable", type=type, problem=str(error))
        return None


def _retrieve_nothing(uri: str) -> NoReturn:
    raise ValueError(f"{uri} is not fetched: a schema has all that it refers to")


def _named(types: Mapping[str, Any]) -> str:
    if not types:
        return "none has declared any type yet"
    more = f" and {len(types) - MOST_NAMED} more" if len(types) > MOST_NAMED else ""
    return f"there are {', '.join(sorted(types)[:MOST_NAMED])}{more}"
