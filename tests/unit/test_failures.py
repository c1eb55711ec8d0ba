import json
from typing import Any

import pytest

from aftercommit.core import failures, json_text


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def dumped(error: BaseException) -> dict[str, Any]:
    with pytest.raises(type(error)):  # for a traceback
        throw(error)
    return dict(json.loads(failures.dump_exception(error)))


def throw(error: BaseException) -> None:
    raise error


def test_error_keeps_type_message_and_traceback() -> None:
    kept = dumped(LookupError("no such order"))
    assert (kept["type"], kept["message"]) == ("LookupError", "no such order")
    assert "test_failures.py" in kept["traceback"]


def test_end_of_the_traceback_is_kept_when_it_is_long() -> None:
    kept = dumped(ValueError("x" * 50_000 + "the end"))
    assert len(kept["message"]) == failures.LONGEST_MESSAGE
    assert len(kept["traceback"]) == failures.LONGEST_TRACEBACK
    assert kept["traceback"].endswith("the end\n")


def test_error_can_be_stored_when_its_text_could_not() -> None:
    kept = dumped(ValueError("a\x00b\ud800c"))
    assert kept["message"] == "a\N{REPLACEMENT CHARACTER}b?c"
    assert list(json_text.find_flaws(kept)) == []


def test_error_is_kept_when_it_cannot_be_put_into_words() -> None:
    assert dumped(Wordless())["message"] == "(the exception could not be put into words)"
    assert failures.summary(Wordless()).startswith("Wordless: ")


def test_summary_is_one_short_text_when_the_message_is_long() -> None:
    text = failures.summary(KeyError("y" * 10_000))
    assert text.startswith("KeyError: 'yyy")
    assert len(text) == failures.LONGEST_MESSAGE


def test_traceback_is_null_when_an_error_is_recorded_by_hand() -> None:
    assert json.loads(failures.dump("Declined", "no")) == {"type": "Declined", "message": "no", "traceback": None}
