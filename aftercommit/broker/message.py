"""What goes over the wire: references to one or more tasks of one work queue, or a dead letter. Pure.

``{"v": 1, "tasks": [{"id": "<uuid>", "dispatch": 1}, ...]}``
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from aftercommit.broker.topology import DEAD_LETTERS, retry_exchange
from aftercommit.core import json_text
from aftercommit.core.errors import MalformedMessage
from aftercommit.core.queues import QueueType
from aftercommit.core.task_ref import MAX_REFS, TaskRef

TRANSIENT: Final = 1
PERSISTENT: Final = 2
DELIVERY_MODES: Final[Mapping[QueueType, int]] = {QueueType.QUORUM: PERSISTENT, QueueType.CLASSIC: TRANSIENT}
"""How messages are published, by the type of the queues. A classic queue forgets transient messages when its node
restarts (decision 26). A quorum queue keeps all, whatever they say."""

VERSION: Final = 1
MAX_DISPATCH: Final = 2**31 - 1

REASON_HEADER: Final = "x-aftercommit-reason"
WORK_QUEUE_HEADER: Final = "x-aftercommit-work-queue"
LONGEST_REASON: Final = 1_000


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it is published, mandatory. ``message_id`` is unique among those under way. ``persistent``: whatever
    the type of the queues is."""

    message_id: str
    exchange: str
    routing_key: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_seconds: int | None = None
    persistent: bool = False


def enqueue(message_id: str, *, work_queue: str, refs: Sequence[TaskRef], delay_seconds: int | None = None) -> Message:
    """A message that refers to tasks of ``work_queue``; with a delay it goes there through the delay's retry queue."""
    exchange = "" if delay_seconds is None else retry_exchange(delay_seconds)
    return Message(message_id, exchange, work_queue, encode(refs), delay_seconds=delay_seconds)


def dead_letter(message_id: str, *, work_queue: str, reason: str, body: bytes) -> Message:
    """A persistent message for the dead-letter queue. Its headers tell the reason and the work queue."""
    headers = {REASON_HEADER: reason[:LONGEST_REASON], WORK_QUEUE_HEADER: work_queue}
    return Message(message_id, "", DEAD_LETTERS, body, headers, persistent=True)


def encode(refs: Sequence[TaskRef]) -> bytes:
    tasks = [{"id": str(item.task_id), "dispatch": item.dispatch} for item in refs]
    return json_text.dump({"v": VERSION, "tasks": tasks}).encode()


def decode(body: bytes) -> list[TaskRef]:
    """The task references in a message. Raises MalformedMessage with the reason."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"the body is not JSON: {error}") from None
    if not isinstance(message, dict) or message.get("v") != VERSION:
        raise MalformedMessage(f'the body is not an object with "v": {VERSION}')
    tasks = message.get("tasks")
    if not isinstance(tasks, list) or not 1 <= len(tasks) <= MAX_REFS:
        raise MalformedMessage(f"tasks is not a list of 1 to {MAX_REFS} entries")
    return [_decode_ref(index, entry) for index, entry in enumerate(tasks)]


def _decode_ref(index: int, entry: Any) -> TaskRef:
    try:
        task_id, dispatch = UUID(entry["id"]), entry["dispatch"]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise MalformedMessage(f"tasks[{index}] does not hold an id (a UUID) and a dispatch") from None
    if type(dispatch) is not int or not 1 <= dispatch <= MAX_DISPATCH:
        raise MalformedMessage(f"tasks[{index}].dispatch is not a whole number from 1 to {MAX_DISPATCH}")
    return TaskRef(task_id, dispatch)
