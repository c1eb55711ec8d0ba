"""What the last check of a server left behind is what ``/readyz`` tells."""

import asyncio

import pytest

from aftercommit.core.errors import DatabaseUnavailable
from aftercommit.server.api import readiness
from aftercommit.server.api.readiness import UP, Check


async def test_state_is_no_longer_up_when_the_check_fails_in_a_way_that_nobody_foresaw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readiness, "CHECK_INTERVAL_SECONDS", 0.01)
    answers: list[Exception | None] = [None]

    async def ask() -> None:
        if answers[0] is not None:
            raise answers[0]

    check, stopping = Check("Postgres", ask, seconds=1), asyncio.Event()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(check.run(stopping))
        for answer, expected in (
            (None, UP),
            (PermissionError("denied"), "Postgres cannot be asked: PermissionError. The API's log has the details."),
            (DatabaseUnavailable("Gone."), "Gone."),
            (None, UP),
        ):
            answers[0] = answer
            while check.state != expected:
                await asyncio.sleep(0.01)
        stopping.set()
