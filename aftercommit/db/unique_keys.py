"""Statements on unique keys: lock keys, look who holds them, take them over, replace what their holders are.

Keys are locked before tasks, in their order, and nothing locks a key after a task. Whether a task still holds its key
stands in the task's own row, so that what ends a task touches no key. A row whose task is gone is a free key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from aftercommit.core import states
from aftercommit.core.features import Feature
from aftercommit.core.states import WAITING, Event, Status
from aftercommit.core.uniqueness import KEY_FIELD, HeldWhile
from aftercommit.db import outbox
from aftercommit.db.database import STATEMENT_SECONDS, Fetch
from aftercommit.db.submit import NewTask, array_literal

LOCK_SECONDS: Final = 5.0
"""How long a transaction on unique keys waits for one lock. Longer is an outage of somebody who holds it."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The task that holds ``key``, and since when. ``waits``: it may be replaced."""

    key: bytes
    task_id: UUID
    held_since: datetime
    waits: bool


_WAITS: Final = f"t.status IN {tuple(map(str, WAITING))}"

# A task that waits past its deadline is not started any more, whether the expirer has ended it or not. A claim that
# began before the deadline may still start it, until its statement is over.
_MAY_START: Final = f"(t.expires_at > now() - interval '{STATEMENT_SECONDS:.0f} seconds') IS NOT FALSE"

_HELD: Final = f"""CASE k.held_while
    WHEN '{HeldWhile.FOR_SECONDS}' THEN k.held_until > now()
    WHEN '{HeldWhile.WAITING}' THEN {_WAITS} AND {_MAY_START}
    ELSE t.status = '{Status.RUNNING}' OR {_WAITS} AND {_MAY_START} END"""

_FIND: Final = f"""
    SELECT k.key, k.task_id, k.held_since, {_WAITS} AS waits
    FROM aftercommit.unique_keys k JOIN aftercommit.tasks t ON t.id = k.task_id
    WHERE k.key = ANY($1::bytea[]) AND {_HELD}
    ORDER BY t.id
"""
_FIND_AND_LOCK: Final = f"{_FIND} FOR NO KEY UPDATE OF t"


async def find(fetch: Fetch, keys: Sequence[bytes]) -> dict[bytes, Holder]:
    """Those of these keys that are held. Locks nothing; served by both primary keys."""
    return {row["key"]: Holder(**row) for row in await fetch(_FIND, keys)}


async def find_and_lock(fetch: Fetch, keys: Sequence[bytes]) -> dict[bytes, Holder]:
    """The same; locks the holders, in the order of their ids. The caller holds the keys' locks. Only for holders that
    wait: a worker passes over locked rows, and would record an outcome later."""
    return {row["key"]: Holder(**row) for row in await fetch(_FIND_AND_LOCK, keys)}


# With ``WHERE false`` a row that exists is locked, and no new version of it is written.
_LOCK_EXISTING: Final = "ON CONFLICT (key) DO UPDATE SET task_id = k.task_id WHERE false"

_GIVEN: Final = """(
    SELECT key, task_id, held_while, now() + for_seconds * interval '1 second' AS held_until
    FROM unnest($1::bytea[], $2::uuid[], $3::text[], $4::float8[]) AS given (key, task_id, held_while, for_seconds)
) AS given"""

_LOCK: Final = f"""
    WITH taken AS (
        INSERT INTO aftercommit.unique_keys AS k (key, task_id, held_while, held_until)
        SELECT key, task_id, held_while, held_until FROM {_GIVEN} ORDER BY key
        {_LOCK_EXISTING}
        RETURNING key
    )
    SELECT now() AS now, ARRAY(SELECT key FROM taken) AS taken
"""


async def lock(fetch: Fetch, tasks: Sequence[NewTask]) -> tuple[set[bytes], datetime]:
    """Lock the keys of these tasks, each another one, until the transaction ends, in the keys' order. Keys that had no
    row are taken: returns them, and the transaction's time. Who holds the others is for the next statement to ask.
    Served by the primary key.
    """
    (row,) = await fetch(_LOCK, *_holds(tasks))
    return set(row["taken"]), row["now"]


_TAKE: Final = f"""
    UPDATE aftercommit.unique_keys k
    SET task_id = given.task_id, held_while = given.held_while, held_until = given.held_until, held_since = now()
    FROM {_GIVEN} WHERE k.key = given.key
"""


async def take(fetch: Fetch, tasks: Sequence[NewTask]) -> None:
    """Give each of these tasks its key, which nobody holds and the caller has locked. Served by the primary key."""
    await fetch(_TAKE, *_holds(tasks))


def _holds(tasks: Sequence[NewTask]) -> tuple[object, ...]:
    held = [(task.id, task.unique) for task in tasks if task.unique is not None]
    return (
        [unique.key for _, unique in held],
        [task_id for task_id, _ in held],
        [unique.held_while for _, unique in held],
        [unique.for_seconds for _, unique in held],
    )


# A message of the first dispatch may be on its way in the same work queue. It stays good: the task becomes scheduled
# once more and gets the same dispatch when it falls due. In every other case such a message must be stale, so the
# dispatch grows; a task with a dispatch waits for the scheduler as ``retrying``.
_REPLACE: Final = f"""
    WITH held AS (
        SELECT given.*, CASE
            WHEN given.due_at IS NULL THEN '{Status.QUEUED}'
            WHEN t.status = '{Status.SCHEDULED}' OR keeps_message AND t.dispatch = 1 THEN '{Status.SCHEDULED}'
            ELSE '{Status.RETRYING}' END AS status,
            given.due_at IS NULL AND keeps_message AS keeps_message
        FROM unnest(
            $1::uuid[], $2::text[], $3::text[], $4::text[], $5::int[], $6::float8[], $7::text[], $8::json[],
            $9::timestamptz[], $10::timestamptz[], $11::json[], $12::float8[], $13::json[]
        ) AS given (
            id, type, queue, priority, max_retries, timeout_seconds, tags, payload,
            due_at, expires_at, retry, result_ttl_seconds, schedule
        ) JOIN aftercommit.tasks t ON t.id = given.id
        CROSS JOIN LATERAL (
            SELECT t.status = '{Status.QUEUED}' AND t.queue = given.queue AND t.priority = given.priority
        ) AS message (keeps_message)
        WHERE t.status = ANY($14::text[])
        ORDER BY t.id FOR NO KEY UPDATE OF t
    ), task AS (
        UPDATE aftercommit.tasks t
        SET type = held.type, queue = held.queue, priority = held.priority, max_retries = held.max_retries,
            timeout_seconds = held.timeout_seconds, tags = held.tags::text[], payload = held.payload,
            due_at = held.due_at, expires_at = held.expires_at, retry = held.retry,
            result_ttl_seconds = held.result_ttl_seconds, schedule = held.schedule,
            status = held.status, enqueued = held.due_at IS NULL, uncharged = t.attempt, error = NULL,
            dispatch = CASE held.status WHEN '{Status.SCHEDULED}' THEN 0
                ELSE t.dispatch + (NOT held.keeps_message)::int END,
            queued_at = CASE WHEN held.due_at IS NULL AND NOT held.keeps_message THEN now() ELSE t.queued_at END
        FROM held WHERE t.id = held.id
        RETURNING t.id, t.queue, t.priority, t.dispatch, t.enqueued AND NOT held.keeps_message AS sent
    ), sent AS (
        {outbox.insert("task WHERE sent")}
    )
    SELECT count(*) AS replaced FROM task
"""


async def replace(fetch: Fetch, tasks: Sequence[NewTask], *, now: datetime) -> int:
    """Make waiting tasks what these are, which have their ids; how many. They keep their creation and their unique key,
    and have all retries before them. ``now`` is the transaction's time: it says which are sent at once.

    The caller has locked the tasks. Served by the primary key.
    """
    (row,) = await fetch(
        _REPLACE,
        [task.id for task in tasks],
        [task.type for task in tasks],
        [task.queue for task in tasks],
        [task.priority for task in tasks],
        [task.max_retries for task in tasks],
        [task.timeout_seconds for task in tasks],
        [array_literal(task.tags) for task in tasks],
        [task.payload for task in tasks],
        [task.due_at(now) for task in tasks],
        [task.expiry(now) for task in tasks],
        [task.retry for task in tasks],
        [task.result_ttl_seconds for task in tasks],
        [task.schedule for task in tasks],
        states.SOURCES[Event.REPLACE],
    )
    return int(row["replaced"])


_OWN: Final = f"decode(t.uniqueness ->> '{KEY_FIELD}', 'hex')"

_LOCK_OWN: Final = f"""
    WITH own AS (
        SELECT {_OWN} AS key, id FROM aftercommit.tasks t
        WHERE id = $1 AND features & {Feature.UNIQUE:d} <> 0 AND status = ANY($2::text[])
    ), locked AS (
        INSERT INTO aftercommit.unique_keys AS k (key, task_id, held_while)
        SELECT key, id, '{HeldWhile.UNFINISHED}' FROM own
        {_LOCK_EXISTING}
    )
    SELECT key FROM own
"""


async def lock_own(fetch: Fetch, task_id: UUID) -> bytes | None:
    """Lock the key of a final task; None when the task is not final or has none. Served by both primary keys."""
    rows = await fetch(_LOCK_OWN, task_id, states.SOURCES[Event.RESUBMIT])
    key: bytes | None = rows[0]["key"] if rows else None
    return key


_TAKE_OWN: Final = f"""
    UPDATE aftercommit.unique_keys k
    SET task_id = t.id, held_since = now(), held_while = coalesce(t.uniqueness ->> 'while', '{HeldWhile.FOR_SECONDS}'),
        held_until = now() + (t.uniqueness ->> 'for_seconds')::float8 * interval '1 second'
    FROM aftercommit.tasks t WHERE t.id = $1 AND k.key = {_OWN}
"""


async def take_own(fetch: Fetch, task_id: UUID) -> None:
    """Give a task its key again, which nobody else holds and the caller has locked. Served by both primary keys."""
    await fetch(_TAKE_OWN, task_id)
