from datetime import timedelta

import pytest

from aftercommit.worker.statistics import Statistics
from tests.factories import NOW, a_claimed_task


def test_passed_at_follows_the_youngest_task_claimed_from_each_work_queue() -> None:
    statistics = Statistics()
    for seconds in (3, 5, 4):
        statistics.claimed([a_claimed_task(queued_at=NOW + timedelta(seconds=seconds))])
    statistics.claimed([a_claimed_task(priority="low")])
    assert [(queue.work_queue, queue.passed_at) for queue in statistics.queues()] == [
        ("tasks.high", NOW + timedelta(seconds=5)),
        ("tasks.low", NOW),
    ]


def test_slow_task_shows_at_once_and_is_forgotten_after_some_dozens() -> None:
    statistics = Statistics()
    task = a_claimed_task()
    statistics.claimed([task])
    assert task_seconds(statistics) is None
    statistics.ended(task, 0.001)
    assert task_seconds(statistics) == pytest.approx(0.001)
    statistics.ended(task, 10)
    assert task_seconds(statistics) == pytest.approx(0.5, rel=0.01)
    for _ in range(200):
        statistics.ended(task, 0.001)
    assert task_seconds(statistics) == pytest.approx(0.001, rel=0.05)


def task_seconds(statistics: Statistics) -> float | None:
    (queue,) = statistics.queues()
    return queue.task_seconds
