"""Follows the load through the API until it is done, and takes the broker's depths from the broker itself."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import aio_pika

from aftercommit.devstack.demo.client import Client, Json
from aftercommit.devstack.demo.load import Load
from aftercommit.devstack.rabbitmq import RabbitServer

FINAL = frozenset({"succeeded", "failed", "cancelled", "expired"})
DEAD_LETTERS = "tasks.dlq"
MARKER = "aftercommit.marker"
LONGEST_RUN_SECONDS = 240
LONGEST_SETTLING_SECONDS = 30
POLL_SECONDS = 0.5

Counts = dict[str, Counter[str]]
"""By priority: how many tasks are in each status."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the API and the broker say."""

    tasks: dict[str, Json]
    unpublished: int
    depths: dict[str, int]
    elapsed_seconds: float = field(compare=False)

    @property
    def dead_letters(self) -> int:
        return self.depths.get(DEAD_LETTERS, 0)

    @property
    def undelivered(self) -> dict[str, int]:
        """Messages of tasks anywhere but among the dead letters."""
        return {name: depth for name, depth in self.depths.items() if depth and name not in (DEAD_LETTERS, MARKER)}


async def queue_depths(rabbitmq: RabbitServer) -> dict[str, int]:
    """Messages of every queue.

    The ready ones are asked of the queue itself: what rabbitmqctl and the management API show of a quorum queue
    lags by up to five seconds and is zero after a restart. The unacknowledged ones can only be had that way.
    """
    listed = await asyncio.to_thread(
        rabbitmq.rabbitmqctl, "list_queues", "name", "messages_unacknowledged", "--formatter", "json"
    )
    depths = {queue["name"]: int(queue["messages_unacknowledged"] or 0) for queue in json.loads(listed)}
    async with await aio_pika.connect(rabbitmq.environment()["RABBITMQ_URL"]) as connection:
        channel = await connection.channel()
        for name in depths:
            queue = await channel.declare_queue(name, passive=True)
            depths[name] += queue.declaration_result.message_count or 0
    return depths


class Observer:
    def __init__(self, *, client: Client, load: Load, rabbitmq: RabbitServer, tag: str) -> None:
        self._client = client
        self._load = load
        self._rabbitmq = rabbitmq
        self._tag = tag
        self._started = time.monotonic()

    async def until_final(self, show: Callable[[Counts, float], None]) -> None:
        """Returns when every planned task is final, or after `LONGEST_RUN_SECONDS`."""
        while True:
            tasks = await self._tasks()
            elapsed = time.monotonic() - self._started
            show(_counts(tasks), elapsed)
            final = sum(task["status"] in FINAL for task in tasks.values())
            if final >= len(self._load.planned) or elapsed > LONGEST_RUN_SECONDS:
                return
            await asyncio.sleep(POLL_SECONDS)

    async def settled(self, dead_letters_before: int) -> Observation:
        """The last look, taken once outbox and queues are as they should be; however they are after a while."""
        deadline = time.monotonic() + LONGEST_SETTLING_SECONDS
        elapsed = time.monotonic() - self._started
        while True:
            seen = Observation(
                tasks=await self._tasks(),
                unpublished=await self._client.unpublished(),
                depths=await queue_depths(self._rabbitmq),
                elapsed_seconds=elapsed,
            )
            failed = sum(task["status"] == "failed" for task in seen.tasks.values())
            at_rest = not seen.unpublished and not seen.undelivered
            if (at_rest and seen.dead_letters == dead_letters_before + failed) or time.monotonic() > deadline:
                return seen
            await asyncio.sleep(POLL_SECONDS)

    async def _tasks(self) -> dict[str, Json]:
        return {task["id"]: task async for task in self._client.tasks(self._tag)}


def _counts(tasks: dict[str, Json]) -> Counts:
    counts: Counts = {}
    for task in tasks.values():
        counts.setdefault(task["priority"], Counter())[task["status"]] += 1
    return counts
