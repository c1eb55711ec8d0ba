from datetime import timedelta

import pytest

from app.workers.marks import Marks
from tests.factories import NOW, a_claimed_task


def test_mark_follows_the_youngest_task_claimed_from_each_work_queue() -> None:
    marks = Marks()
    for seconds in (3, 5, 4):
        marks.claimed(a_claimed_task(queued_at=NOW + timedelta(seconds=seconds)))
    marks.claimed(a_claimed_task(priority="low"))
    assert [(mark.work_queue, mark.passed_at) for mark in marks.all()] == [
        ("tasks.high", NOW + timedelta(seconds=5)),
        ("tasks.low", NOW),
    ]


def test_slow_task_shows_at_once_and_is_forgotten_after_some_dozens() -> None:
    marks = Marks()
    task = a_claimed_task()
    marks.claimed(task)
    (mark,) = marks.all()
    assert mark.task_seconds is None
    marks.ended(task, 0.001)
    assert mark.task_seconds == pytest.approx(0.001)
    marks.ended(task, 10)
    assert mark.task_seconds == pytest.approx(0.5, rel=0.01)
    for _ in range(200):
        marks.ended(task, 0.001)
    assert mark.task_seconds == pytest.approx(0.001, rel=0.05)
