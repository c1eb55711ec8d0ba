"""What the demo submits: webhook deliveries over three priorities, some one by one, some in batches."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass

from aftercommit.devstack.demo.client import Client, Json
from aftercommit.devstack.demo.receiver import Receiver

TASKS_PER_PRIORITY = {"high": 100, "medium": 200, "low": 300}
ALWAYS_FAILING_PER_PRIORITY = 4
MAX_RETRIES = 3
BATCH_SIZE = 50
SUBMITS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Delivery:
    """One task of the load; `key` names it at the receiver."""

    key: str
    priority: str
    always_fails: bool

    def task(self, receiver: Receiver, tag: str) -> Json:
        return {
            "type": "http.request",
            "payload": {
                "method": "POST",
                "url": receiver.url(self.key, always_fails=self.always_fails),
                "json": {"event": "order.paid", "order": self.key},
            },
            "queue": "tasks",
            "priority": self.priority,
            "max_retries": MAX_RETRIES,
            "tags": [tag],
        }


def deliveries(tag: str) -> list[Delivery]:
    """The whole load in random order, the same number for every run."""
    planned = [
        Delivery(key=f"{tag}-{priority}-{number}", priority=priority, always_fails=number < ALWAYS_FAILING_PER_PRIORITY)
        for priority, count in TASKS_PER_PRIORITY.items()
        for number in range(count)
    ]
    random.shuffle(planned)
    return planned


class Load:
    """`submitted` maps the id that the API gave to the delivery, as the answers come in."""

    def __init__(self, *, client: Client, receiver: Receiver, tag: str) -> None:
        self.planned = deliveries(tag)
        self.submitted: dict[str, Delivery] = {}
        self._client = client
        self._receiver = receiver
        self._tag = tag

    async def submit(self) -> None:
        """One half task by task, concurrently; the other half in batches."""
        middle = len(self.planned) // 2
        singles, batched = iter(self.planned[:middle]), self.planned[middle:]
        async with asyncio.TaskGroup() as group:
            for _ in range(SUBMITS_AT_ONCE):
                # They share one iterator: each takes the next delivery that no other has taken.
                group.create_task(self._submit_each(singles))
            group.create_task(self._submit_batches(batched))

    async def _submit_each(self, singles: Iterator[Delivery]) -> None:
        for delivery in singles:
            task_id = await self._client.submit(delivery.task(self._receiver, self._tag))
            self.submitted[task_id] = delivery

    async def _submit_batches(self, batched: list[Delivery]) -> None:
        for start in range(0, len(batched), BATCH_SIZE):
            batch = batched[start : start + BATCH_SIZE]
            ids = await self._client.submit_batch([each.task(self._receiver, self._tag) for each in batch])
            self.submitted.update(zip(ids, batch, strict=True))
