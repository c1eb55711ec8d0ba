import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aftercommit.broker import message
from aftercommit.core.errors import MalformedMessage
from aftercommit.core.task_ref import TaskRef

TASK = "0199a3c5-7e4b-7c11-9a55-0d9f4c5be7aa"
REFS = st.builds(TaskRef, st.uuids(), st.integers(1, message.MAX_DISPATCH))


@given(st.lists(REFS, min_size=1, max_size=20))
def test_decode_gives_what_was_encoded(refs: list[TaskRef]) -> None:
    assert message.decode(message.encode(refs)) == refs


def test_encoded_message_is_the_documented_one() -> None:
    assert message.encode([TaskRef(UUID(TASK), 3)]) == f'{{"v":1,"tasks":[{{"id":"{TASK}","dispatch":3}}]}}'.encode()


def entry(**changes: Any) -> bytes:
    return json.dumps({"v": 1, "tasks": [{"id": TASK, "dispatch": 1} | changes]}).encode()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe\xfd", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", '"v": 1'),
        (b"null", '"v": 1'),
        (b'{"v": 2, "tasks": []}', '"v": 1'),
        (b'{"tasks": []}', '"v": 1'),
        (b'{"v": 1}', "tasks is not a list"),
        (b'{"v": 1, "tasks": []}', "1 to 1000 entries"),
        (json.dumps({"v": 1, "tasks": [{"id": TASK, "dispatch": 1}] * 1_001}).encode(), "1 to 1000 entries"),
        (b'{"v": 1, "tasks": {}}', "tasks is not a list"),
        (b'{"v": 1, "tasks": ["x"]}', r"tasks\[0\] does not hold"),
        (b'{"v": 1, "tasks": [null]}', r"tasks\[0\] does not hold"),
        (entry(id="nonsense"), r"tasks\[0\] does not hold"),
        (entry(id=5), r"tasks\[0\] does not hold"),
        (entry(id=None), r"tasks\[0\] does not hold"),
        (entry(dispatch="1"), r"tasks\[0\].dispatch"),
        (entry(dispatch=True), r"tasks\[0\].dispatch"),
        (entry(dispatch=1.0), r"tasks\[0\].dispatch"),
        (entry(dispatch=0), r"tasks\[0\].dispatch"),
        (entry(dispatch=2**31), r"tasks\[0\].dispatch"),
    ],
)
def test_decode_says_why_when_a_message_is_not_ours(body: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage, match=reason):
        message.decode(body)


@given(st.binary(max_size=200) | st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_decode_raises_nothing_else_when_it_is_fed_anything(value: Any) -> None:
    body = value if isinstance(value, bytes) else json.dumps({"v": 1, "tasks": value}).encode()
    with pytest.raises(MalformedMessage):
        message.decode(body)


def test_reference_goes_to_its_work_queue_when_it_has_no_delay() -> None:
    sent = message.enqueue("7", work_queue="tasks.high", refs=[TaskRef(UUID(TASK), 1)])
    assert (sent.message_id, sent.exchange, sent.routing_key, sent.delay_seconds) == ("7", "", "tasks.high", None)


def test_reference_goes_through_the_exchange_of_its_delay_when_it_has_one() -> None:
    sent = message.enqueue("7", work_queue="tasks.high", refs=[TaskRef(UUID(TASK), 1)], delay_seconds=30)
    assert (sent.exchange, sent.routing_key, sent.delay_seconds) == ("tasks.retry.30", "tasks.high", 30)


def test_dead_letter_carries_why_and_whence_when_the_reason_is_long() -> None:
    letter = message.dead_letter("7", work_queue="tasks.low", reason="x" * 5_000, body=b"whatever")
    assert (letter.exchange, letter.routing_key, letter.body) == ("", "tasks.dlq", b"whatever")
    assert letter.headers == {message.REASON_HEADER: "x" * 1_000, message.WORK_QUEUE_HEADER: "tasks.low"}


def test_dead_letters_alone_are_always_persistent() -> None:
    assert message.dead_letter("1", work_queue="tasks.low", reason="why", body=b"").persistent
    assert not message.enqueue("1", work_queue="tasks.low", refs=[]).persistent
