"""What an operator reads of rounds that fail one after the other."""

import asyncpg
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from aftercommit.core.errors import BrokerUnavailable, DatabaseUnavailable
from aftercommit.runtime.failures_in_a_row import FailuresInARow


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    error.__cause__ = cause
    return error


def refused() -> Exception:
    return raised(DatabaseUnavailable("Postgres refuses the login."), asyncpg.InvalidPasswordError("no"))


def full() -> Exception:
    return raised(DatabaseUnavailable("Postgres has no disk space left."), asyncpg.DiskFullError("no"))


@pytest.fixture
def failures() -> FailuresInARow:
    return FailuresInARow("test")


def logged(failures: FailuresInARow, *errors: Exception) -> list[EventDict]:
    with capture_logs() as logs:
        for error in errors:
            failures.log(error)
    return logs


def traced(logs: list[EventDict]) -> list[bool]:
    return [log["exc_info"] is not None for log in logs]


def test_line_has_type_cause_and_sqlstate(failures: FailuresInARow) -> None:
    (log,) = logged(failures, refused())
    assert (log["event"], log["tick"], log["failures"]) == ("tick_failed", "test", 1)
    assert log["error"] == "DatabaseUnavailable: Postgres refuses the login."
    assert log["cause"] == "InvalidPasswordError: no"
    assert log["sqlstate"] == "28P01"


def test_sqlstate_is_found_behind_several_causes(failures: FailuresInARow) -> None:
    driver = raised(OSError("adapter"), raised(asyncpg.DeadlockDetectedError("no")))
    (log,) = logged(failures, raised(DatabaseUnavailable("conflict"), driver))
    assert (log["sqlstate"], log["cause"]) == ("40P01", "DeadlockDetectedError: no")


def test_traceback_comes_with_the_first_and_with_each_change_of_kind(failures: FailuresInARow) -> None:
    logs = logged(failures, refused(), refused(), full(), full(), raised(BrokerUnavailable("away")), refused())
    assert traced(logs) == [True, False, True, False, True, True]
    assert [log["failures"] for log in logs] == [1, 2, 3, 4, 5, 6]


def test_traceback_comes_again_after_a_success(failures: FailuresInARow) -> None:
    first = logged(failures, refused(), refused())
    failures.end()
    assert traced([*first, *logged(failures, refused())]) == [True, False, True]


def test_long_text_is_cut(failures: FailuresInARow) -> None:
    (log,) = logged(failures, raised(KeyError("x" * 10_000)))
    assert len(log["error"]) == 500
