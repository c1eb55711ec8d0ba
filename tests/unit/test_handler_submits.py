"""How a call of a handler becomes a task, and what is refused before anything is sent."""

from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from aftercommit import Context, Handler, InvalidPayload, TaskRequest, task
from tests.factories import a_context


class Size(StrEnum):
    SMALL = "small"


class Address(BaseModel):
    city: str
    lines: list[str] = []


@task("order.ship")
async def ship(
    context: Context, order: UUID, amount: Annotated[int, Field(gt=0)], size: Size = Size.SMALL, note: str = "none"
) -> str:
    return f"{order} {amount} {size} {note}"


@task("order.note")
def note(to: Address, on: date, at: datetime, price: Decimal, labels: set[str]) -> None: ...


@task("order.late_context")
def late_context(to: str, context: Context, copies: int = 1) -> None: ...


ORDER = UUID(int=7)


class Recorder:
    """Takes requests as a client does."""

    def __init__(self) -> None:
        self.requests: list[TaskRequest] = []

    def submit(self, request: TaskRequest, /) -> str:
        self.requests.append(request)
        return "submitted"


def refusal(handler: Handler, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(InvalidPayload) as caught:
        handler.request(*args, **kwargs)
    return str(caught.value)


def test_call_becomes_a_request_with_json_values() -> None:
    request = ship.request(order=ORDER, amount=2, size=Size.SMALL)
    assert request == TaskRequest("order.ship", {"order": str(ORDER), "amount": 2, "size": "small"}, {})
    assert type(request.payload["size"]) is str


def test_arguments_by_position_are_bound_by_name_and_the_context_is_none_of_them() -> None:
    assert ship.payload(ORDER, 2, note="x") == {"order": str(ORDER), "amount": 2, "note": "x"}
    handler: Handler = late_context  # type checkers can leave a context out only where it comes first
    assert handler.payload("ada", copies=2) == handler.payload("ada", 2) == {"to": "ada", "copies": 2}


def test_defaults_are_left_to_the_worker() -> None:
    assert ship.payload(order=ORDER, amount=1) == {"order": str(ORDER), "amount": 1}


def test_worker_makes_the_same_arguments_of_the_payload() -> None:
    given: dict[str, Any] = {
        "to": Address(city="Bonn"),
        "on": date(2026, 6, 1),
        "at": datetime(2026, 6, 1, 5, tzinfo=UTC),
        "price": Decimal("1.10"),
        "labels": {"a"},
    }
    payload = note.payload(**given)
    assert payload == {
        "to": {"city": "Bonn", "lines": []},
        "on": "2026-06-01",
        "at": "2026-06-01T05:00:00Z",
        "price": "1.10",
        "labels": ["a"],
    }
    assert note.arguments(payload, a_context()) == given


def test_field_is_named_that_does_not_fit_is_missing_or_unknown() -> None:
    assert refusal(ship, order=ORDER, amount=0).endswith("amount: Input should be greater than 0")
    assert refusal(ship, order=ORDER) == "the payload does not fit order.ship: amount: Field required"
    assert "colour: Extra inputs are not permitted" in refusal(ship, order=ORDER, amount=1, colour="red")
    assert "context: Extra inputs are not permitted" in refusal(ship, order=ORDER, amount=1, context=a_context())


def test_value_that_json_cannot_have_is_refused() -> None:
    @task("echo")
    def echo(value: Any) -> None: ...

    assert "cannot be written as JSON" in refusal(echo, value=object())


def test_too_many_arguments_and_one_given_twice_are_refused() -> None:
    with pytest.raises(TypeError, match=r"order\.ship takes 4 arguments by position, 5 were given"):
        ship.request(ORDER, 1, Size.SMALL, "x", "y")  # type: ignore[call-arg]  # what the test is about
    with pytest.raises(TypeError, match=r"order\.ship was given order twice"):
        ship.request(ORDER, 1, order=ORDER)  # type: ignore[misc]  # what the test is about


def test_submit_hands_the_request_to_the_client_and_returns_its_answer() -> None:
    client = Recorder()
    assert ship.submit(client, order=ORDER, amount=1) == "submitted"
    assert ship.with_options(priority="high", delay_seconds=60).submit(client, ORDER, 2) == "submitted"
    assert client.requests == [
        TaskRequest("order.ship", {"order": str(ORDER), "amount": 1}, {}),
        TaskRequest("order.ship", {"order": str(ORDER), "amount": 2}, {"priority": "high", "delay_seconds": 60}),
    ]


def test_nothing_is_submitted_when_the_payload_does_not_fit() -> None:
    client = Recorder()
    with pytest.raises(InvalidPayload):
        ship.submit(client, order=ORDER, amount=0)
    assert client.requests == []


def test_payload_may_have_a_field_named_client() -> None:
    @task("client.invite")
    def invite(client: str, handler: str) -> None: ...

    recorder = Recorder()
    invite.submit(recorder, client="ada", handler="babbage")
    assert recorder.requests[0].payload == {"client": "ada", "handler": "babbage"}


async def test_handler_can_still_be_called_with_its_context() -> None:
    assert await ship(a_context(), ORDER, 1) == f"{ORDER} 1 small none"
    assert await ship(order=ORDER, amount=1, context=a_context()) == f"{ORDER} 1 small none"
