"""A cursor follows what was published, and never passes a row that was not."""

from aftercommit.server.relay.read_cursors import LAG_SECONDS, ReadCursors


def after(*passed: tuple[float, int], cursors: ReadCursors | None = None) -> ReadCursors:
    """``cursors``, or those of "a" from 0, after (lags, id) were passed."""
    cursors = cursors or ReadCursors({"a": 0})
    for lags, row_id in passed:
        cursors.passed("a", row_id, moment=100 + lags * LAG_SECONDS)
    return cursors


def test_nothing_is_read_before_it_is_known_where_to_begin() -> None:
    cursors = ReadCursors()
    assert cursors.all() == {}
    cursors.begin(["a"], 7)
    cursors.begin(["a", "b"], 12)
    assert cursors.all() == {"a": 7, "b": 12}


def test_resting_destinations_are_left_out() -> None:
    assert ReadCursors({"a": 1, "b": 2}).without(["a", "unknown"]) == {"b": 2}


def test_cursor_follows_what_was_passed_so_long_ago_that_nothing_before_it_commits() -> None:
    cursors = after((0, 10), (0.5, 20))
    assert cursors.all() == {"a": 0}
    after((1, 30), cursors=cursors)
    assert cursors.all() == {"a": 10}
    after((2, 40), cursors=cursors)
    assert cursors.all() == {"a": 30}


def test_cursor_stays_below_rows_that_came_in_between_and_are_more_than_a_round_takes() -> None:
    assert after((0, 1_000), (1, 600)).all() == {"a": 600}


def test_cursors_go_back_when_the_database_lost_its_last_transactions() -> None:
    cursors = after((0, 10), (1, 20), (1.5, 30))
    cursors.begin(["b"], 4)
    cursors.cap(8)
    assert cursors.all() == {"a": 8, "b": 4}
    # Rows passed before are forgotten.
    after((2.5, 9), cursors=cursors)
    assert cursors.all() == {"a": 8, "b": 4}
