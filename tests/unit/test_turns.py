"""Whose turn it is among work queues that patterns name."""

from collections import Counter

from aftercommit.core.queue_options import Ordering, QueueOptions
from aftercommit.core.queues import Priority, WorkQueue, WorkQueuePattern
from aftercommit.worker.turns import Turns


def turns(*shares: str, **queues: QueueOptions) -> Turns:
    found = Turns(
        [
            (WorkQueuePattern.parse(name), int(weight) if weight else None)
            for name, _, weight in (share.partition(":") for share in shares)
        ]
    )
    found.arrange(queues or {name: QueueOptions(name) for name in ("tasks", "emails")})
    return found


def served(found: Turns, count: int, *names: str) -> Counter[str]:
    candidates = {WorkQueue.parse(name) for name in names}
    return Counter(str(found.next(candidates)) for _ in range(count))


ALL = [f"{queue}.{priority}" for queue in ("tasks", "emails") for priority in Priority]


def test_pattern_serves_the_higher_priorities_first_and_queues_by_turns() -> None:
    assert served(turns("*"), 10, *ALL) == {"tasks.high": 5, "emails.high": 5}
    assert served(turns("*"), 10, "tasks.low", "emails.medium") == {"emails.medium": 10}


def test_earlier_pattern_goes_first() -> None:
    assert served(turns("emails", "tasks"), 4, *ALL) == {"emails.high": 4}
    assert served(turns("emails", "tasks"), 4, "emails.low", "tasks.high") == {"emails.low": 4}


def test_precise_pattern_takes_its_queue_out_of_the_wider_one() -> None:
    found = turns("*", "emails.high", "*.low")
    assert served(found, 3, "emails.high", "tasks.medium") == {"tasks.medium": 3}
    assert served(found, 3, "emails.high", "tasks.low") == {"emails.high": 3}


def test_weights_of_patterns_share_whatever_is_in_them() -> None:
    assert served(turns("emails:3", "tasks:1"), 40, *ALL) == {"emails.high": 30, "tasks.high": 10}


def test_weighted_queue_shares_its_priorities() -> None:
    weighted = QueueOptions("tasks", ordering=Ordering.WEIGHTED)
    assert served(turns("tasks", tasks=weighted), 100, *ALL[:3]) == {
        "tasks.high": 60,
        "tasks.medium": 30,
        "tasks.low": 10,
    }
    own = QueueOptions("tasks", ordering=Ordering.WEIGHTED, weights=(1, 1, 2))
    assert served(turns("tasks", tasks=own), 40, *ALL[:3]) == {"tasks.high": 10, "tasks.medium": 10, "tasks.low": 20}
    assert served(turns("tasks", tasks=weighted), 7, "tasks.low") == {"tasks.low": 7}


def test_only_what_shares_no_turn_is_emptied_at_once() -> None:
    exact = turns("tasks.high", "tasks.low")
    assert exact.is_alone(WorkQueue.parse("tasks.high"))
    assert not exact.are_shared
    assert not turns("*").is_alone(WorkQueue.parse("tasks.high"))
    assert not turns("tasks:1", "emails:1").is_alone(WorkQueue.parse("tasks.high"))
    assert turns("*").are_shared


def test_pattern_without_a_queue_is_told() -> None:
    found = turns("emails", "reports", "*.high")
    assert [str(each) for each in found.missing()] == ["reports"]
    assert [str(each) for each in turns("*").arrange({"a": QueueOptions("a")})] == ["a.high", "a.medium", "a.low"]
