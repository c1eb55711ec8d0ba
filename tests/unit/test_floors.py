"""Rounds begin behind what was published, and never behind what waits."""

from app.outbox.floors import LAG_SECONDS, Floors


def test_every_destination_is_read_from_its_beginning_at_first() -> None:
    assert Floors(["a", "b"]).without([]) == {"a": 0, "b": 0}


def test_resting_destinations_are_left_out() -> None:
    assert Floors(["a", "b"]).without(["a", "unknown"]) == {"b": 0}


def test_floor_follows_what_was_passed_so_long_ago_that_nothing_before_it_comes() -> None:
    floors = Floors(["a"])
    floors.passed("a", 10, now=100)
    floors.passed("a", 20, now=100 + LAG_SECONDS / 2)
    assert floors.without([]) == {"a": 0}
    floors.passed("a", 30, now=100 + LAG_SECONDS)
    assert floors.without([]) == {"a": 10}
    floors.passed("a", 40, now=100 + LAG_SECONDS * 2)
    assert floors.without([]) == {"a": 30}


def test_row_that_was_left_behind_is_read_in_the_next_round() -> None:
    floors = Floors(["a"])
    floors.passed("a", 10, now=100)
    floors.passed("a", 30, now=100 + LAG_SECONDS)
    floors.left_behind("a", 5)
    assert floors.without([]) == {"a": 4}
    # What was passed before does not lift the floor over it.
    floors.passed("a", 40, now=100 + LAG_SECONDS * 2)
    assert floors.without([]) == {"a": 4}


def test_row_that_waits_behind_the_floor_changes_nothing() -> None:
    floors = Floors(["a"])
    floors.passed("a", 10, now=100)
    floors.passed("a", 30, now=100 + LAG_SECONDS)
    floors.left_behind("a", 11)
    assert floors.without([]) == {"a": 10}


def test_destination_nobody_told_of_is_known_once_a_row_waits_for_it() -> None:
    floors = Floors([])
    floors.left_behind("tasks.retry.high.7", 12)
    assert floors.without([])["tasks.retry.high.7"] < 12
