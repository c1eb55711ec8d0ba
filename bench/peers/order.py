"""What a peer shall do, from the environment; and how its worker tells that it did."""

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

NOOP: Final = "noop"
SLEEP: Final = "sleep"
SUSTAINED: Final = "sustained"
LATENCY: Final = "latency"
PRIORITY: Final = "priority"
LOW: Final = "low"
SLEEP_SECONDS: Final = 0.01
LOW_SECONDS: Final = 0.02
"""A low-priority task of the backlog: slow enough that it still waits when the measurement ends."""

WARM_UP: Final = 100
"""Tasks that go ahead when a worker is to work meanwhile."""

WARM: Final = WARM_UP // 4
_LOOK_SECONDS: Final = 0.005
SLOTS: Final = 50
"""Tasks at a time: as many as WORKER_CONCURRENCY gives one of our workers."""


@dataclass(frozen=True, slots=True)
class Order:
    """``tasks`` tasks of ``kind``: ``noop``, ``sleep`` for 10 ms, ``sustained``, no-op ones that are enqueued while the
    worker works, or ``priority``, a backlog of low ones. For ``latency`` there are none, since they come over HTTP: who
    enqueues only makes the tables. ``report`` is a folder for what all processes tell; ``redis_url`` is empty for
    those that need none."""

    amqp_url: str
    dsn: str
    tasks: int
    kind: str
    report: Path
    redis_url: str = ""

    @classmethod
    def read(cls) -> Self:
        return cls(
            amqp_url=os.environ["BENCH_AMQP_URL"],
            dsn=os.environ["BENCH_DSN"],
            tasks=int(os.environ["BENCH_TASKS"]),
            kind=os.environ["BENCH_KIND"],
            report=Path(os.environ["BENCH_REPORT"]),
            redis_url=os.environ["BENCH_REDIS_URL"],
        )

    @property
    def task(self) -> str:
        """The name of the task to enqueue."""
        return {SLEEP: SLEEP, PRIORITY: LOW}.get(self.kind, NOOP)

    @property
    def measured(self) -> int:
        """Tasks but those that go ahead."""
        return self.tasks - WARM_UP if self.kind == SUSTAINED else self.tasks

    def batches(self, size: int) -> Iterator[int]:
        """How many tasks to enqueue at a time. With the worker at work: WARM_UP first, and the rest when told to."""
        left = self.tasks
        if self.kind == SUSTAINED:
            yield from [1] * WARM_UP
            _write_time(self.ready)
            while not self.go.exists():
                time.sleep(_LOOK_SECONDS)
            _write_time(self.begun)
            left = self.measured
        while left > 0:
            yield min(size, left)
            left -= size

    @property
    def ready(self) -> Path:
        """Tells when the worker may be started."""
        return self.report / "ready"

    @property
    def warm(self) -> Path:
        """Tells when the worker has run most of WARM_UP, if one process ran them all, or its share."""
        return self.report / "warm"

    @property
    def go(self) -> Path:
        """Tells the one who enqueues to go on."""
        return self.report / "go"

    @property
    def begun(self) -> Path:
        """Tells when the rest began to be enqueued."""
        return self.report / "begun"

    @property
    def first(self) -> Path:
        """Tells when the first task had run."""
        return self.report / "first"

    @property
    def last(self) -> Path:
        """Tells when all had, if one process ran them all."""
        return self.report / "last"

    @property
    def starts(self) -> Path:
        """What ``Starts`` writes of the tasks that came over HTTP."""
        return self.report / "starts"

    @property
    def lows(self) -> Path:
        """The same of the low ones."""
        return self.report / "lows"

    def environment(self) -> dict[str, str]:
        return {
            "BENCH_AMQP_URL": self.amqp_url,
            "BENCH_DSN": self.dsn,
            "BENCH_TASKS": str(self.tasks),
            "BENCH_KIND": self.kind,
            "BENCH_REPORT": str(self.report),
            "BENCH_REDIS_URL": self.redis_url,
        }


class Counter:
    """Counts in one worker process, from any thread; writes when its first task and when all tasks had run."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._numbers = itertools.count(1)  # its next() is atomic

    def ran(self) -> None:
        """One more task."""
        number = next(self._numbers)
        if number == 1:
            _write_time(self._order.first)
        if number == WARM:
            _write_time(self._order.warm)
        if number == self._order.tasks:
            _write_time(self._order.last)


def _write_time(file: Path) -> None:
    """The Unix time, whole or not at all; an earlier one, of another process, stays."""
    unfinished = file.with_suffix(f".{os.getpid()}")
    unfinished.write_text(repr(time.time()))
    with contextlib.suppress(FileExistsError):
        file.hardlink_to(unfinished)
    unfinished.unlink()
