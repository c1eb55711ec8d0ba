from datetime import timedelta

import pytest

from aftercommit.worker.statistics import Statistics
from tests.factories import NOW, a_claimed_task


def test_mark_follows_the_youngest_task_claimed_from_each_work_queue() -> None:
    statistics = Statistics()
    for seconds in (3, 5, 4):
        statistics.claimed(a_claimed_task(queued_at=NOW + timedelta(seconds=seconds)))
    statistics.claimed(a_claimed_task(priority="low"))
    assert [(mark.work_queue, mark.passed_at) for mark in statistics.all()] == [
        ("tasks.high", NOW + timedelta(seconds=5)),
        ("tasks.low", NOW),
    ]


def test_slow_task_shows_at_once_and_is_forgotten_after_some_dozens() -> None:
    statistics = Statistics()
    task = a_claimed_task()
    statistics.claimed(task)
    (mark,) = statistics.all()
    assert mark.task_seconds is None
    statistics.ended(task, 0.001)
    assert mark.task_seconds == pytest.approx(0.001)
    statistics.ended(task, 10)
    assert mark.task_seconds == pytest.approx(0.5, rel=0.01)
    for _ in range(200):
        statistics.ended(task, 0.001)
    assert mark.task_seconds == pytest.approx(0.001, rel=0.05)
