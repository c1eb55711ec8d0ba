"""Any number of tasks as batches that the API takes."""

from typing import Final

from aftercommit.client.call import Call
from aftercommit.client.results import SubmittedTask
from aftercommit.client.task_calls import batch, encode_request, key_or_random
from aftercommit.task_request import TaskRequest

BatchCall = Call[tuple[SubmittedTask, ...]]

LARGEST_BATCH: Final = 10_000
"""The API takes no more."""

ENOUGH_BYTES: Final = 8 * 2**20
"""An eighth of what the API takes in a body by default."""


class Batcher:
    """Collects tasks until they are a batch: ``batch_size`` of them, or ``enough_bytes`` of JSON. Each batch has an
    idempotency key of its own: ``<idempotency_key>-0``, ``-1`` and so on, or random ones. Raises ValueError."""

    def __init__(
        self, *, batch_size: int, idempotency_key: str | None = None, enough_bytes: int = ENOUGH_BYTES
    ) -> None:
        if not 1 <= batch_size <= LARGEST_BATCH:
            raise ValueError(f"batch_size is {batch_size!r}: give 1 to {LARGEST_BATCH}")
        self._batch_size = batch_size
        self._enough_bytes = enough_bytes
        self._key = idempotency_key
        self._made = 0
        self._encoded: list[bytes] = []
        self._bytes = 0

    def add(self, task: TaskRequest) -> BatchCall | None:
        """The batch that ``task`` completes, if it does. Raises InvalidPayload."""
        encoded = encode_request(task)
        self._encoded.append(encoded)
        self._bytes += len(encoded)
        return self.rest() if len(self._encoded) == self._batch_size or self._bytes >= self._enough_bytes else None

    def rest(self) -> BatchCall | None:
        """What was collected and is in no batch yet."""
        if not self._encoded:
            return None
        key = None if self._key is None else f"{self._key}-{self._made}"
        made = batch(self._encoded, idempotency_key=key_or_random(key))
        self._made += 1
        self._encoded = []
        self._bytes = 0
        return made
