import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftercommit.core import json_text

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner),
    max_leaves=20,
)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@given(JSON)
def test_value_can_be_stored_and_read_back_when_it_has_no_flaw(value: Any) -> None:
    if not list(json_text.find_flaws(value)):
        stored = json_text.dump(value).encode()
        assert b"\x00" not in stored
        assert json.loads(stored) == value


@given(JSON)
def test_pointers_can_be_shown_when_the_value_is_full_of_flaws(value: Any) -> None:
    for pointer, detail in json_text.find_flaws(value):
        assert pointer.startswith("#")
        (pointer + detail).encode()


@pytest.mark.parametrize(
    ("value", "pointer", "detail"),
    [
        ("a\x00b", "#", "NUL"),
        ("ä\x00", "#", "NUL"),
        ({"a": {"b": ["ok", "\ud800"]}}, "#/a/b/1", "lone surrogate"),
        ({"a": {"k\x00": 1}}, "#/a", "a key that holds a NUL"),
        ({"k\udfff": 1}, "#", "a key that holds a lone surrogate"),
        ({"a/b~c": float("nan")}, "#/a~1b~0c", "not a finite number"),
        ([float("-inf")], "#/0", "not a finite number"),
    ],
)
def test_flaw_is_pointed_at_when_postgres_could_not_keep_it(value: Any, pointer: str, detail: str) -> None:
    [(found, told)] = json_text.find_flaws(value)
    assert found == pointer
    assert detail in told


def test_every_flaw_is_found_when_there_are_several() -> None:
    value = {"a": "\x00", "b": ["\ud800", 1e400]}
    assert [pointer for pointer, _ in json_text.find_flaws(value)] == ["#/a", "#/b/0", "#/b/1"]


def test_pointer_stays_short_when_a_key_is_endless() -> None:
    [(pointer, _)] = json_text.find_flaws({"k" * 1_000_000: "\x00"})
    assert pointer == "#/" + "k" * 200 + "\N{HORIZONTAL ELLIPSIS}"


def test_depth_is_bounded() -> None:
    assert list(json_text.find_flaws(nested(json_text.MAX_DEPTH))) == []
    [(pointer, detail)] = json_text.find_flaws(nested(json_text.MAX_DEPTH + 1))
    assert pointer == "#" + "/0" * (json_text.MAX_DEPTH + 1)
    assert "deeper than 100 levels" in detail


def test_dump_is_compact_and_keeps_letters() -> None:
    assert json_text.dump({"straße": [1, None, "\u2028"]}) == '{"straße":[1,null,"\u2028"]}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1}, b"x", object()])
def test_dump_raises_when_json_cannot_say_it(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        json_text.dump(value)


@given(ANY_TEXT)
def test_storable_text_has_no_flaw(text: str) -> None:
    assert json_text.text_flaw(json_text.storable(text)) is None


@given(JSON)
def test_what_is_plain_has_no_flaw(value: object) -> None:
    assert not (json_text.is_plain(value) and list(json_text.find_flaws(value)))


@pytest.mark.parametrize("value", [{"a": [1, None, True, "b"]}, [], "x" * 1000, {"a": {"b": {}}}])
def test_ordinary_values_are_plain(value: object) -> None:
    assert json_text.is_plain(value)
