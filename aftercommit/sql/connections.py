"""Connections and sessions that tasks are submitted on, as far as types tell them apart: without importing a driver."""

from collections.abc import Coroutine
from typing import Any, Protocol


class AsyncConnection(Protocol):
    """An asyncpg connection, a psycopg ``AsyncConnection``, or SQLAlchemy's ``AsyncConnection`` or ``AsyncSession``."""

    def execute(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]: ...


class ExecutingConnection(Protocol):
    """A psycopg ``Connection``, or SQLAlchemy's ``Connection`` or ``Session``."""

    def execute(self, *args: Any, **kwargs: Any) -> Any: ...


class DjangoConnection(Protocol):
    """``django.db.connection``, or another one of ``django.db.connections``."""

    vendor: Any

    def cursor(self) -> Any: ...


SyncConnection = ExecutingConnection | DjangoConnection
