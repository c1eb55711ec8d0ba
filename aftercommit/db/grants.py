"""Statements on ``queue_grants`` and ``rate_buckets``: the shared limits of queues, in shares that workers hold.

A grant counts until its worker says less, or is proved dead: its lease has lapsed and it has no claim left. So the sum
of the grants of a queue never exceeds its ``max_running``, unless that was lowered below what runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aftercommit.db.database import Fetch


@dataclass(frozen=True, slots=True)
class Ask:
    """What a worker asks for a queue. It starts no more than ``wanted`` until it is answered, and ``in_use`` of them
    run. ``tokens``: how many starts it wants at once; ``returned``: how many it got before and did not need."""

    queue: str
    in_use: int
    wanted: int
    tokens: int
    returned: int


@dataclass(frozen=True, slots=True)
class Share:
    """``allowed``: how many may run here, None without ``max_running``; where that is less than what runs, the grant is
    what runs. ``tokens``: how many may start, None without a
    rate; ``seconds_until_next``: when there is another token."""

    queue: str
    allowed: int | None
    tokens: int | None
    seconds_until_next: float


# The next statement must see what others committed while this one waited for the lock.
_LOCK: Final = "SELECT FROM aftercommit.queues WHERE name = ANY ($1::text[]) ORDER BY name FOR NO KEY UPDATE"

# A worker that has more than its part gives it up while another one has less than that and wants more.
_SHARE: Final = """
    WITH asked AS (
        SELECT * FROM unnest($2::text[], $3::int[], $4::int[], $5::int[], $6::int[])
            AS a (queue, in_use, wanted, tokens, returned)
    ), rivals AS (
        SELECT asked.queue, q.max_running, others.granted, q.max_running / (1 + others.wanting) AS part, EXISTS (
                SELECT FROM aftercommit.queue_grants g
                WHERE g.queue = asked.queue AND g.worker <> $1
                    AND g.granted < least(g.wanted, q.max_running / (1 + others.wanting))
            ) AS some_lack
        FROM asked JOIN aftercommit.queues q ON q.name = asked.queue CROSS JOIN LATERAL (
            SELECT coalesce(sum(o.granted), 0) AS granted, count(*) FILTER (WHERE o.wanted > 0) AS wanting
            FROM aftercommit.queue_grants o WHERE o.queue = asked.queue AND o.worker <> $1
        ) others
        WHERE q.max_running IS NOT NULL
    ), allowed AS (
        SELECT queue, greatest(0, least(
                asked.wanted, max_running - rivals.granted, CASE WHEN some_lack THEN greatest(part, 1) END
            ))::int AS allowed
        FROM asked JOIN rivals USING (queue)
    ), granted AS (
        INSERT INTO aftercommit.queue_grants AS g (queue, worker, granted, wanted, in_use)
        SELECT queue, $1, greatest(asked.in_use, allowed), asked.wanted, asked.in_use
        FROM asked JOIN allowed USING (queue)
        ON CONFLICT (queue, worker) DO UPDATE
            SET granted = excluded.granted, wanted = excluded.wanted, in_use = excluded.in_use
    ), filled AS (
        SELECT asked.queue, q.rate_per_second AS rate, asked.tokens AS wanted, least(
                greatest(1, greatest(coalesce(q.burst, ceil(q.rate_per_second)), 2 * q.rate_per_second * $7::float8)
                    - q.rate_per_second * $7::float8),
                coalesce(b.tokens + asked.returned + q.rate_per_second
                    * greatest(0, extract(epoch FROM clock_timestamp() - b.refilled_at)), 1)
            )::float8 AS tokens
        FROM asked JOIN aftercommit.queues q ON q.name = asked.queue
        LEFT JOIN aftercommit.rate_buckets b ON b.queue = asked.queue
        WHERE q.rate_per_second IS NOT NULL
    ), taken AS (
        INSERT INTO aftercommit.rate_buckets AS b (queue, tokens, refilled_at)
        SELECT queue, tokens - greatest(0, least(wanted, floor(tokens))), clock_timestamp() FROM filled
        ON CONFLICT (queue) DO UPDATE SET tokens = excluded.tokens, refilled_at = excluded.refilled_at
        RETURNING queue, tokens
    )
    SELECT asked.queue, allowed.allowed, greatest(0, least(filled.wanted, floor(filled.tokens)))::int AS tokens,
        coalesce(greatest(0, 1 - taken.tokens) / filled.rate, 0)::float8 AS seconds_until_next
    FROM asked LEFT JOIN allowed USING (queue) LEFT JOIN filled USING (queue) LEFT JOIN taken USING (queue)
"""


async def share(fetch: Fetch, asks: Sequence[Ask], *, worker: str, hold_seconds: float) -> list[Share]:
    """Report what a worker uses and get what it may have, in a transaction that the caller commits. A token is used
    within ``hold_seconds`` or returned: by so much a bucket holds less than its burst, and less burst than for twice
    that time there cannot be.

    Locks the queues in the order of their names, by primary key.
    """
    await fetch(_LOCK, sorted(each.queue for each in asks))
    rows = await fetch(
        _SHARE,
        worker,
        [each.queue for each in asks],
        [each.in_use for each in asks],
        [each.wanted for each in asks],
        [each.tokens for each in asks],
        [each.returned for each in asks],
        hold_seconds,
    )
    return [Share(row["queue"], row["allowed"], row["tokens"], row["seconds_until_next"]) for row in rows]


_GIVE_UP: Final = "DELETE FROM aftercommit.queue_grants WHERE worker = $1 AND queue = ANY ($2::text[])"
_DROP_DEAD: Final = """
    DELETE FROM aftercommit.queue_grants g
    WHERE NOT EXISTS (SELECT FROM aftercommit.workers w WHERE w.name = g.worker AND w.lease_until > now())
        AND NOT EXISTS (SELECT FROM aftercommit.claims c WHERE c.worker = g.worker)
"""


async def give_up(fetch: Fetch, queues: Sequence[str], *, worker: str) -> None:
    """Delete the grants of a worker that runs nothing of these queues any more, or needs none. By primary key."""
    await fetch(_GIVE_UP, worker, queues)


async def drop_dead(fetch: Fetch) -> None:
    """Delete the grants of workers whose lease has lapsed and whose tasks were all taken. Reads the table, which has a
    row per worker and limited queue; then ``workers`` by primary key and ``claims_by_worker``."""
    await fetch(_DROP_DEAD)
