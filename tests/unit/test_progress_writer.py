"""Progress is gathered, written a few times a second at most, and a failed write loses nothing."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from aftercommit.core.errors import DatabaseUnavailable
from aftercommit.core.settings import Settings
from aftercommit.db import progress
from aftercommit.db.database import DatabaseConnection
from aftercommit.db.progress import Progress
from aftercommit.worker import progress_writer
from aftercommit.worker.progress_writer import ProgressWriter


def told(task: int, fraction: float, *, attempt: int = 1) -> Progress:
    return Progress(UUID(int=task), attempt, fraction, None)


class Written:
    """Stands for the statement; fails as often as it is told."""

    def __init__(self) -> None:
        self.batches: list[list[Progress]] = []
        self.moments: list[float] = []
        self.failures = 0
        self.again = asyncio.Event()

    async def write(self, _: Any, batch: Sequence[Progress]) -> None:
        if self.failures:
            self.failures -= 1
            raise DatabaseUnavailable("away")
        self.batches.append(list(batch))
        self.moments.append(asyncio.get_running_loop().time())
        self.again.set()


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    statement = Written()
    monkeypatch.setattr(progress, "write", statement.write)
    return statement


@asynccontextmanager
async def a_writer() -> AsyncIterator[ProgressWriter]:
    writer = ProgressWriter(DatabaseConnection(Settings(_env_file=None), application="test"))
    stopping = asyncio.Event()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(writer.run(stopping))
        await asyncio.sleep(0)
        yield writer
        stopping.set()


async def test_first_is_written_at_once_and_the_rest_gathers(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_writer, "INTERVAL_SECONDS", 0.3)
    async with a_writer() as writer:
        writer.tell(told(1, 0))
        await written.again.wait()
        for step in range(1, 1_001):
            writer.tell(told(1, step / 1_000))
            writer.tell(told(2, step / 2_000))
        written.again.clear()
        await written.again.wait()
    assert written.batches == [[told(1, 0)], [told(1, 1), told(2, 0.5)]]
    assert written.moments[1] - written.moments[0] > 0.2


async def test_what_is_told_from_threads_as_the_worker_stops_is_written(written: Written) -> None:
    async with a_writer() as writer:

        def tell() -> None:
            for step in range(101):
                writer.tell(told(1, step / 100))

        await asyncio.to_thread(tell)
    assert written.batches[-1] == [told(1, 1)]


async def test_failed_write_is_tried_again_with_what_was_told_meanwhile(written: Written) -> None:
    written.failures = 1
    async with a_writer() as writer:
        writer.tell(told(1, 0.1))
        writer.tell(told(2, 0.1))
        while written.failures:
            await asyncio.sleep(0.001)
        writer.tell(told(2, 0.2))
        await written.again.wait()
    assert written.batches == [[told(1, 0.1), told(2, 0.2)]]
