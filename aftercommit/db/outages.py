"""What an error of Postgres or its driver means: the one place that tells outages, refusals and mistakes apart.

The SQLSTATE classes are those of the PostgreSQL manual, appendix A.
"""

import asyncio
from typing import Final

import asyncpg

from aftercommit.core.errors import DatabaseTimeout, DatabaseUnavailable

READ_ONLY: Final = "25006"
"""The server takes no writes: a standby, or one whose disk is nearly full."""

DISK_FULL: Final = "53100"
TOO_MANY_CONNECTIONS: Final = "53300"
NO_ROOM: Final = frozenset({DISK_FULL, TOO_MANY_CONNECTIONS})

_TIMEOUTS: Final = frozenset({"57014", "55P03", "25P03"})
"""statement_timeout or a cancel, lock_timeout, idle_in_transaction_session_timeout: Postgres is there, and busy."""

_RETRYABLE: Final = frozenset({"40001", "40P01"})
"""Serialization failure and deadlock: rolled back; the same statement may succeed now."""

_OUTAGE_CLASSES: Final = ("08", "28", "3D", "53", "57")
"""Connection, login, no such database, out of resources, stopped by an operator."""

_VALUE_CLASSES: Final = ("22", "23", "54")
"""Data exception, integrity, a limit exceeded: these are about values."""

_SENTENCES: Final = {
    "28": "Postgres refuses the login: check POSTGRES_USER, POSTGRES_PASSWORD and pg_hba.conf.",
    "3D": "Postgres has no such database: check POSTGRES_DB.",
    DISK_FULL: "Postgres has no disk space left.",
    "53200": "Postgres is out of memory.",
    TOO_MANY_CONNECTIONS: "Postgres has no connection left: raise max_connections or lower the pools.",
    "53": "Postgres is out of resources.",
    "57P03": "Postgres is starting.",
    "57": "Postgres is stopping, or an operator ended the connection.",
    "08": "The connection to Postgres broke.",
    READ_ONLY: "Postgres takes no writes: a standby, or a server that an operator made read-only.",
    "40P01": "Postgres rolled the statement back to end a deadlock.",
    "40": "Postgres rolled the statement back because of a conflict with another.",
    "57014": "Postgres did not finish the statement in time.",
    "55P03": "The statement waited too long for a lock.",
    "25P03": "Postgres ended a transaction that did nothing for too long.",
}
"""By SQLSTATE or its class."""

_UNREACHABLE: Final = "Postgres cannot be reached."
_SILENT: Final = "Postgres does not answer."
_BROKEN: Final = "The connection to Postgres broke."


class StatementRefused(Exception):
    """Postgres, or the driver before it, does not take the values of a statement: not now and not later."""


def sqlstate(error: BaseException | None) -> str:
    """Postgres's SQLSTATE, or nothing."""
    return getattr(error, "sqlstate", None) or ""


def is_timeout(error: BaseException) -> bool:
    """Whether Postgres ended a statement or a transaction that took too long."""
    return sqlstate(error) in _TIMEOUTS


def is_outage(error: BaseException) -> bool:
    """Whether ``error`` says that Postgres is away or cannot serve now, rather than that a statement is wrong."""
    if isinstance(error, asyncpg.PostgresError):
        return is_outage_state(sqlstate(error))
    if isinstance(error, asyncpg.InterfaceError):
        return not isinstance(error, ValueError)  # a value that does not fit its parameter
    return isinstance(error, OSError | asyncio.TimeoutError | asyncpg.InternalClientError)


def is_outage_state(state: str) -> bool:
    if state in _TIMEOUTS:
        return False
    return state.startswith(_OUTAGE_CLASSES) or state in _RETRYABLE or state == READ_ONLY


def is_refusal(error: BaseException) -> bool:
    """Whether ``error`` says that values cannot be stored, now or later."""
    if isinstance(error, asyncpg.PostgresError):
        return sqlstate(error).startswith(_VALUE_CLASSES)
    return isinstance(error, asyncpg.InterfaceError)  # those that are no outage


def keeps_connection(error: BaseException) -> bool:
    """Whether the connection that raised ``error`` serves on: Postgres answered, and was not on its way out."""
    state = sqlstate(error)
    return state in _RETRYABLE or state in _TIMEOUTS - {"25P03"} or bool(state and not is_outage_state(state))


def translated(error: Exception) -> Exception:
    """The error that a caller gets for ``error``; ``error`` itself where nothing is known about it."""
    if is_timeout(error):
        return DatabaseTimeout(f"{sentence(error)} Try again.")
    if is_outage(error):
        return DatabaseUnavailable(f"{sentence(error)} Try again.")
    if is_refusal(error):
        return StatementRefused(str(error))
    return error


def sentence(error: BaseException) -> str:
    """What is wrong, for whoever operates the service: words of ours, which hold no value and no secret.

    "Cannot be reached" is said only of what could not be reached.
    """
    state = sqlstate(error)
    if known := _SENTENCES.get(state) or _SENTENCES.get(state[:2]):
        return known
    if isinstance(error, TimeoutError):
        return _SILENT
    broken = isinstance(error, ConnectionResetError | ConnectionAbortedError | BrokenPipeError)
    return _UNREACHABLE if isinstance(error, OSError) and not broken else _BROKEN
