"""How each driver sends a statement with two texts, and reads the first column of its rows.

Texts, since each driver has a way of its own for JSON: the database reads them. A driver is known by the name of its
classes, so that none is imported that is not there.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

Parameters = tuple[str, str | None]
Send = Callable[[Any, Parameters], "Sequence[Any] | Awaitable[Sequence[Any]]"]

_STATEMENT: Final = "SELECT id FROM aftercommit.submit_tasks({}, {}) AS id"
_FORMAT: Final = _STATEMENT.format("%s::text::jsonb", "%s::text")
_NUMBERED: Final = _STATEMENT.format("$1::text::jsonb", "$2::text")
_NAMED: Final = _STATEMENT.format("CAST(CAST(:tasks AS text) AS jsonb)", "CAST(:key AS text)")


def driver_of(connection: object) -> Send:
    """How to send a statement on ``connection``. Raises TypeError for what is none that is known."""
    for kind in type(connection).__mro__:
        if (send := _DRIVERS.get((kind.__module__.partition(".")[0], kind.__name__))) is not None:
            return send
    kind = type(connection)
    raise TypeError(
        f"{kind.__module__}.{kind.__qualname__} is no connection that tasks can be submitted on: give one of psycopg 3 "
        "or asyncpg, a connection or session of SQLAlchemy, or Django's connection"
    )


def _first_columns(rows: Sequence[Any]) -> list[Any]:
    return [row[0] for row in rows]


def _psycopg(connection: Any, parameters: Parameters) -> list[Any]:
    with connection.cursor(row_factory=_tuples) as cursor:
        return _first_columns(cursor.execute(_FORMAT, parameters).fetchall())


async def _psycopg_async(connection: Any, parameters: Parameters) -> list[Any]:
    async with connection.cursor(row_factory=_tuples) as cursor:
        await cursor.execute(_FORMAT, parameters)
        return _first_columns(await cursor.fetchall())


def _tuples(_cursor: object) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """A row factory: the connection may have another one."""
    return tuple


async def _asyncpg(connection: Any, parameters: Parameters) -> list[Any]:
    return _first_columns(await connection.fetch(_NUMBERED, *parameters))


def _sqlalchemy(connection: Any, parameters: Parameters) -> list[Any]:
    return list(connection.execute(*_for_sqlalchemy(parameters)).scalars())


async def _sqlalchemy_async(connection: Any, parameters: Parameters) -> list[Any]:
    return list((await connection.execute(*_for_sqlalchemy(parameters))).scalars())


def _for_sqlalchemy(parameters: Parameters) -> tuple[Any, dict[str, str | None]]:
    from sqlalchemy import text  # noqa: PLC0415  # it is there, since a connection of it is

    return text(_NAMED), dict(zip(("tasks", "key"), parameters, strict=True))


def _django(connection: Any, parameters: Parameters) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(_FORMAT, parameters)
        return _first_columns(cursor.fetchall())


_DRIVERS: Final[dict[tuple[str, str], Send]] = {
    ("psycopg", "Connection"): _psycopg,
    ("psycopg", "AsyncConnection"): _psycopg_async,
    ("asyncpg", "Connection"): _asyncpg,
    ("asyncpg", "PoolConnectionProxy"): _asyncpg,
    ("sqlalchemy", "Connection"): _sqlalchemy,
    ("sqlalchemy", "Session"): _sqlalchemy,
    ("sqlalchemy", "scoped_session"): _sqlalchemy,
    ("sqlalchemy", "AsyncConnection"): _sqlalchemy_async,
    ("sqlalchemy", "AsyncSession"): _sqlalchemy_async,
    ("sqlalchemy", "async_scoped_session"): _sqlalchemy_async,
    ("django", "BaseDatabaseWrapper"): _django,
    ("django", "ConnectionProxy"): _django,
}
"""By the package and the name of the class."""
