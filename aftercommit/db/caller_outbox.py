"""The outbox in a caller's own database: what was committed there, and is on its way to the service.

Its rows go out in batches. A batch is committed before it is sent, with its rows and its Idempotency-Key: whoever finds
it after a crash sends exactly the same again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg

from aftercommit.db.database import CONNECT_SECONDS, Fetch

_INSTALL: Final = Path(__file__).with_suffix(".sql")

BATCH_BYTES: Final = 16_777_216
"""Of requests in one batch, unless a single one has more."""

_GRANTS: Final = """
    GRANT USAGE ON SCHEMA aftercommit_outbox TO {role};
    GRANT EXECUTE ON FUNCTION aftercommit_outbox.submit_task, aftercommit_outbox.submit_tasks TO {role};
"""
_QUOTE: Final = "SELECT quote_ident(rolname) FROM pg_roles WHERE rolname = $1"


class NoSuchRole(Exception):
    """There is no role of this name."""


async def install(dsn: str, *, roles: Sequence[str] = ()) -> None:
    """Make the outbox, or bring it to this version, and let ``roles`` submit. Keeps what is there. Raises NoSuchRole,
    OSError, TimeoutError, and asyncpg's errors."""
    connection = await asyncpg.connect(dsn, timeout=CONNECT_SECONDS)
    try:
        async with connection.transaction():
            await connection.execute(_INSTALL.read_text())
            for role in roles:
                quoted = await connection.fetchval(_QUOTE, role)
                if quoted is None:
                    raise NoSuchRole(role)
                await connection.execute(_GRANTS.format(role=quoted))
    finally:
        await connection.close()


@dataclass(frozen=True, slots=True)
class Row:
    """``request`` is the JSON text of a task, as the HTTP API takes it."""

    id: int
    request: str


@dataclass(frozen=True, slots=True)
class Batch:
    """``id`` is its Idempotency-Key. ``age_seconds``: since it was opened, or last known not to have been taken."""

    id: UUID
    age_seconds: float
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which transactions had ended when rows were read: all before ``oldest_running``, and none from
    ``next_transaction`` on."""

    oldest_running: int
    next_transaction: int


# The lock is the session's: it is free when its forwarder, or the way to it, has died.
_LEAD: Final = "SELECT pg_try_advisory_lock(hashtextextended('aftercommit_outbox', 1)) AS leads"


async def lead(fetch: Fetch) -> bool:
    """Whether this session is the one that forwards. It remains so until it ends."""
    (row,) = await fetch(_LEAD)
    return bool(row["leads"])


_OPEN: Final = """
    SELECT b.id AS batch, extract(epoch FROM clock_timestamp() - b.opened_at)::float8 AS age_seconds,
        r.id, r.request::text AS request
    FROM aftercommit_outbox.batch b
    LEFT JOIN aftercommit_outbox.rows r ON r.id = ANY (b.row_ids)
    ORDER BY r.id
"""
_TAKE: Final = """
    WITH waiting AS (
        SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS bytes_before
        FROM (
            SELECT id, bytes FROM aftercommit_outbox.rows
            WHERE refused_at IS NULL AND id > $2 ORDER BY id LIMIT $3
        ) AS next
    ), made AS (
        INSERT INTO aftercommit_outbox.batch (id, row_ids)
        SELECT $1::uuid, array_agg(id) FROM waiting WHERE bytes_before < $4 HAVING count(*) > 0
        ON CONFLICT DO NOTHING
        RETURNING row_ids
    )
    SELECT r.id, r.request::text AS request,
        pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest_running,
        pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next_transaction
    FROM made JOIN aftercommit_outbox.rows r ON r.id = ANY (made.row_ids)
    ORDER BY r.id
"""


async def find_open(fetch: Fetch) -> Batch | None:
    """The batch that was not settled, if there is one."""
    rows = await fetch(_OPEN)
    if not rows:
        return None
    return Batch(rows[0]["batch"], rows[0]["age_seconds"], [_row(row) for row in rows if row["id"] is not None])


async def take(fetch: Fetch, batch_id: UUID, *, after: int, limit: int) -> tuple[Batch, Snapshot] | None:
    """Open a batch of up to ``limit`` rows above the id ``after``, and up to BATCH_BYTES; None: there are none. Served
    by ``rows_waiting``. Only for whoever leads, and has no open batch."""
    rows = await fetch(_TAKE, batch_id, after, limit, BATCH_BYTES)
    if not rows:
        return None
    snapshot = Snapshot(rows[0]["oldest_running"], rows[0]["next_transaction"])
    return Batch(batch_id, 0.0, [_row(row) for row in rows]), snapshot


_SETTLE: Final = """
    WITH closed AS (DELETE FROM aftercommit_outbox.batch WHERE id = $1 RETURNING row_ids)
    DELETE FROM aftercommit_outbox.rows r USING closed WHERE r.id = ANY (closed.row_ids) AND r.refused_at IS NULL
"""
_REFUSE: Final = """
    UPDATE aftercommit_outbox.rows r SET refused_at = now(), refusal = u.refusal
    FROM unnest($2::bigint[], $3::text[]) AS u (id, refusal)
    WHERE r.id = u.id AND EXISTS (SELECT FROM aftercommit_outbox.batch WHERE id = $1)
"""
_REOPEN: Final = """
    UPDATE aftercommit_outbox.batch SET id = $2, row_ids = $3::bigint[], opened_at = now() WHERE id = $1
"""
_CLOSE: Final = "DELETE FROM aftercommit_outbox.batch WHERE id = $1"


async def settle(fetch: Fetch, batch_id: UUID) -> None:
    """The service has all rows of the batch: they are deleted. Changes nothing when somebody else has settled it."""
    await fetch(_SETTLE, batch_id)


async def refuse(fetch: Fetch, batch_id: UUID, refusals: Sequence[tuple[int, str]]) -> None:
    """Keep rows of an open batch from being sent again, with the reasons."""
    await fetch(_REFUSE, batch_id, [row for row, _ in refusals], [reason for _, reason in refusals])


async def reopen(fetch: Fetch, batch_id: UUID, new_id: UUID, row_ids: Sequence[int]) -> None:
    """Go on with some of the rows, under a new Idempotency-Key; without rows the batch is closed. Only for a batch that
    the service surely has not taken."""
    if row_ids:
        await fetch(_REOPEN, batch_id, new_id, row_ids)
    else:
        await fetch(_CLOSE, batch_id)


_STATUS: Final = """
    SELECT count(*) AS waiting,
        extract(epoch FROM clock_timestamp() - min(created_at))::float8 AS oldest_seconds,
        (SELECT count(*) FROM aftercommit_outbox.rows WHERE refused_at IS NOT NULL) AS refused,
        EXISTS (
            SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
            WHERE l.locktype = 'advisory' AND l.granted
                AND (l.classid::bigint << 32) | l.objid::bigint = hashtextextended('aftercommit_outbox', 1)
        ) AS forwarding
    FROM aftercommit_outbox.rows WHERE refused_at IS NULL
"""
_REFUSED: Final = """
    SELECT id, request ->> 'type' AS type, refused_at, refusal FROM aftercommit_outbox.rows
    WHERE refused_at IS NOT NULL ORDER BY id LIMIT $1
"""
_RETRY: Final = """
    UPDATE aftercommit_outbox.rows SET refused_at = NULL, refusal = NULL
    WHERE refused_at IS NOT NULL AND ($1::bigint[] IS NULL OR id = ANY ($1)) RETURNING id
"""
_DISCARD: Final = """
    DELETE FROM aftercommit_outbox.rows
    WHERE refused_at IS NOT NULL AND ($1::bigint[] IS NULL OR id = ANY ($1)) RETURNING id
"""


async def status(fetch: Fetch) -> Any:
    """How many rows wait and for how long, how many were refused, and whether somebody forwards. Counts all rows."""
    (row,) = await fetch(_STATUS)
    return row


async def list_refused(fetch: Fetch, *, limit: int) -> Sequence[Any]:
    """The first refused rows. Served by ``rows_refused``."""
    return await fetch(_REFUSED, limit)


async def retry(fetch: Fetch, ids: Sequence[int] | None) -> int:
    """Send refused rows again, all of them or these; how many."""
    return len(await fetch(_RETRY, ids))


async def discard(fetch: Fetch, ids: Sequence[int] | None) -> int:
    """Delete refused rows, all of them or these; how many."""
    return len(await fetch(_DISCARD, ids))


def _row(row: Any) -> Row:
    return Row(row["id"], row["request"])
