import pytest

from aftercommit.core.queues import Priority, WorkQueue, parse_queue


@pytest.mark.parametrize("name", ["tasks", "a", "e-mails_2", "a" * 63])
def test_queue_is_taken_when_its_name_is_good(name: str) -> None:
    assert parse_queue(name) == name
    assert WorkQueue.parse(f"{name}.low") == WorkQueue(name, Priority.LOW)
    assert str(WorkQueue.parse(f"{name}.low")) == f"{name}.low"


@pytest.mark.parametrize("name", ["", "Tasks", "1a", "a.b", "a b", "a\n", "ä", "a" * 64, "*", "#"])
def test_queue_is_refused_when_its_name_is_bad(name: str) -> None:
    with pytest.raises(ValueError, match="is not a queue name"):
        parse_queue(name)


@pytest.mark.parametrize("name", ["", "tasks", "tasks.", "tasks.urgent", "tasks.high.low", ".high", "tasks.HIGH"])
def test_work_queue_is_refused_when_its_name_is_bad(name: str) -> None:
    with pytest.raises(ValueError, match=r"is not a (work queue|queue name)"):
        WorkQueue.parse(name)
