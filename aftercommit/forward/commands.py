"""``aftercommit outbox``: makes the outbox in a caller's database, and shows how it stands."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Final

import asyncpg

from aftercommit.core.errors import AftercommitError
from aftercommit.core.settings import load_settings
from aftercommit.db import caller_outbox
from aftercommit.db.caller_outbox import NoSuchRole
from aftercommit.db.database import DatabaseConnection

MOST_SHOWN: Final = 20
NO_DSN: Final = "FORWARD_DSN: is missing: give it, or --dsn, as postgresql://user:password@host/database"


def run(action: str, ids: Sequence[int], roles: Sequence[str]) -> int:
    """The exit status: 0, 1 when the database cannot be used or has no outbox, 2 for what cannot be meant."""
    dsn = load_settings().forward_dsn
    try:
        return asyncio.run(_run(action, ids, roles, _checked(action, ids, roles, dsn)))
    except _Misuse as error:
        print(error, file=sys.stderr)
        return 2
    except NoSuchRole as error:
        print(f"--grant: there is no role {error}; nothing was changed", file=sys.stderr)
        return 2
    except (AftercommitError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        print(_sentence(error), file=sys.stderr)
        return 1


class _Misuse(Exception):
    """What was given does not fit together."""


def _checked(action: str, ids: Sequence[int], roles: Sequence[str], dsn: str | None) -> str:
    """The DSN. Raises _Misuse."""
    if dsn is None:
        raise _Misuse(NO_DSN)
    if roles and action != "install":
        raise _Misuse(f"--grant: is for install, not for {action}")
    if ids and action not in ("retry", "discard"):
        raise _Misuse(f"ID: is for retry and discard, not for {action}")
    return dsn


def _sentence(error: Exception) -> str:
    match error:
        case asyncpg.UndefinedTableError() | asyncpg.InvalidSchemaNameError():
            return "There is no outbox in this database: make it with `aftercommit outbox install`"
        case asyncpg.InsufficientPrivilegeError():
            return f"The role of FORWARD_DSN may not do this: {error}"
        case _:
            return f"FORWARD_DSN: Postgres cannot be used there: {error}"


async def _run(action: str, ids: Sequence[int], roles: Sequence[str], dsn: str) -> int:
    if action == "install":
        await caller_outbox.install(dsn, roles=roles)
        print(
            "The outbox is there: SELECT aftercommit_outbox.submit_task('email.send', '{\"to\": \"ada@example.com\"}')"
        )
        return 0
    async with DatabaseConnection(dsn, application="outbox") as connection:
        if action == "retry":
            print(f"{await caller_outbox.retry(connection.fetch, ids or None)} rows wait again.")
        elif action == "discard":
            print(f"{await caller_outbox.discard(connection.fetch, ids or None)} rows are deleted.")
        else:
            await _show(connection)
    return 0


async def _show(connection: DatabaseConnection) -> None:
    found = await caller_outbox.status(connection.fetch)
    oldest = "" if found["oldest_seconds"] is None else f", the oldest for {found['oldest_seconds']:.1f} s"
    print(f"waiting     {found['waiting']}{oldest}")
    print(f"refused     {found['refused']}")
    print(f"forwarder   {'runs' if found['forwarding'] else 'none: start `aftercommit forward`'}")
    for row in await caller_outbox.list_refused(connection.fetch, limit=MOST_SHOWN):
        print(f"  row {row['id']}, {row['type']}, refused {row['refused_at']:%Y-%m-%d %H:%M:%S %Z}: {row['refusal']}")
    if found["refused"] > MOST_SHOWN:
        print(f"  and {found['refused'] - MOST_SHOWN} more")
