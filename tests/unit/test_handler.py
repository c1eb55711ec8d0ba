"""The decorator: what it refuses at import, and how a payload becomes a call."""

from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from aftercommit import Backoff, Context, Delays, Fail, Handler, InvalidPayload, Retry, Snooze, task
from tests.factories import a_context

CONTEXT = a_context()


class Size(StrEnum):
    SMALL = "small"


class Address(BaseModel):
    city: str
    lines: list[str]


@task("order.ship", timeout_seconds=30, max_retries=8)
async def ship(
    order: UUID, address: Address, amount: Annotated[int, Field(gt=0)], size: Size = Size.SMALL, note: str = "none"
) -> str:
    return f"{order} {address.city} {amount} {size} {note}"


GOOD: dict[str, Any] = {"order": str(UUID(int=7)), "address": {"city": "Bonn", "lines": []}, "amount": 1}


def refusal(handler: Handler, payload: dict[str, Any]) -> str:
    with pytest.raises(InvalidPayload) as caught:
        handler.arguments(payload, CONTEXT)
    return str(caught.value)


def test_payload_becomes_checked_arguments_when_it_fits() -> None:
    arguments = ship.arguments(GOOD, CONTEXT)
    assert arguments == {"order": UUID(int=7), "address": Address(city="Bonn", lines=[]), "amount": 1}


def test_function_s_defaults_apply_when_keys_are_absent() -> None:
    @task("test")
    def function(amount: int = 5) -> int:
        return amount

    assert function(**function.arguments({}, CONTEXT)) == 5
    assert function(**function.arguments({"amount": 6}, CONTEXT)) == 6


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"amount": "many"}, "amount: Input should be a valid integer"),
        ({"amount": 0}, "amount: Input should be greater than 0"),
        ({"address": {"city": 5, "lines": []}}, "address.city: Input should be a valid string"),
        ({"address": {"city": "Bonn", "lines": [1]}}, "address.lines.0: Input should be a valid string"),
        ({"size": "huge"}, "size: Input should be 'small'"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"order": None}, "order: "),
    ],
)
def test_error_names_the_field_when_the_payload_does_not_fit(changes: dict[str, Any], told: str) -> None:
    assert refusal(ship, GOOD | changes).startswith(f"the payload does not fit order.ship: {told}")


def test_error_names_every_field_when_several_do_not_fit() -> None:
    text = refusal(ship, {"amount": "x", "colour": "red"})
    assert all(f"{field}: " in text for field in ("order", "address", "amount", "colour"))


def test_value_is_not_quoted_when_it_does_not_fit() -> None:
    assert "hunter2" not in refusal(ship, GOOD | {"amount": "hunter2"})


def test_context_is_given_when_a_parameter_asks_for_it() -> None:
    @task("test")
    def function(whatever: Context, amount: int) -> None: ...

    assert function.arguments({"amount": 1}, CONTEXT) == {"amount": 1, "whatever": CONTEXT}


def test_context_is_given_when_its_annotation_is_optional() -> None:
    @task("test")
    def function(context: Context | None = None) -> None: ...

    assert function.arguments({}, CONTEXT) == {"context": CONTEXT}


def test_payload_cannot_take_the_context_s_place() -> None:
    @task("test")
    def function(context: Context) -> None: ...

    assert "context: Extra inputs" in refusal(function, {"context": {}})


def test_every_key_is_taken_when_the_function_has_keyword_arguments() -> None:
    @task("test")
    def function(amount: int, **rest: Any) -> None: ...

    assert function.arguments({"amount": "2", "class": [1], "a b": None}, CONTEXT) == {
        "amount": 2,
        "class": [1],
        "a b": None,
    }
    assert "amount: Field required" in refusal(function, {"class": 1})


def test_any_value_is_taken_when_a_parameter_has_no_annotation() -> None:
    @task("test")
    def function(value) -> None: ...  # type: ignore[no-untyped-def]  # what the test is about

    assert function.arguments({"value": {"a": 1}}, CONTEXT) == {"value": {"a": 1}}


async def test_handler_can_be_called_like_the_function() -> None:
    assert await ship(UUID(int=7), Address(city="Bonn", lines=[]), 1) == f"{UUID(int=7)} Bonn 1 small none"
    assert ship.is_async
    assert (ship.type, ship.timeout_seconds, ship.max_retries) == ("order.ship", 30, 8)
    assert repr(ship) == "<handler of order.ship: tests.unit.test_handler.ship>"


def test_sync_function_is_told_from_an_async_one() -> None:
    @task("test")
    def function() -> int:
        return 3

    assert not function.is_async
    assert (function(), function.timeout_seconds, function.max_retries) == (3, None, None)


@pytest.mark.parametrize("type", ["", "1a", "a b", "a\n", "ä", "a" * 201])
def test_decorator_refuses_when_the_type_is_bad(type: str) -> None:
    with pytest.raises(ValueError, match="is not a task type"):
        task(type)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), 604_801])
def test_decorator_refuses_when_the_timeout_is_bad(seconds: float) -> None:
    with pytest.raises(ValueError, match="timeout_seconds of test is"):
        task("test", timeout_seconds=seconds)


def test_decorator_refuses_when_max_retries_is_negative() -> None:
    with pytest.raises(ValueError, match="max_retries of test is -1"):
        task("test", max_retries=-1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"retry": 5}, "retry of test is 5"),
        ({"retry": (5, 30)}, "retry of test is"),
        ({"retry_on": OSError}, "retry_on of test is"),
        ({"retry_on": ("OSError",)}, "retry_on of test is"),
        ({"fail_on": [OSError]}, "fail_on of test is"),
        ({"fail_on": (OSError("x"),)}, "fail_on of test is"),
    ],
)
def test_decorator_refuses_when_its_rules_for_retries_are_bad(options: dict[str, Any], told: str) -> None:
    with pytest.raises(TypeError, match=told):
        task("test", **options)


def test_handler_keeps_its_rules_for_retries() -> None:
    @task("test", retry=Backoff(initial_seconds=1), retry_on=(OSError,), fail_on=(LookupError,))
    def function() -> None: ...

    assert function.retry == Backoff(initial_seconds=1, factor=2, cap_seconds=3_600, jitter=0.1)
    assert (function.retry_on, function.fail_on) == ((OSError,), (LookupError,))
    assert Delays(5, 30) == Delays(5, 30)


def test_decorator_refuses_when_parameters_have_no_name_to_give() -> None:
    with pytest.raises(TypeError, match="takes 'args' by position"):

        @task("test")
        def function(*args: int) -> None: ...

    with pytest.raises(TypeError, match="takes 'first' by position"):

        @task("test")
        def other(first: int, /) -> None: ...


def test_decorator_refuses_when_pydantic_cannot_check_a_parameter() -> None:
    class Opaque: ...

    with pytest.raises(TypeError, match="a parameter that pydantic cannot check"):

        @task("test")
        def function(thing: Opaque) -> None: ...


@pytest.mark.parametrize("after", [-1, float("nan"), float("inf"), 31_536_001])
def test_retry_refuses_when_after_is_no_wait(after: float) -> None:
    with pytest.raises(ValueError, match="after is"):
        Retry(after=after)


@pytest.mark.parametrize("seconds", [0, 0.9, -1, float("nan"), float("inf"), 31_536_001])
def test_snooze_refuses_when_its_seconds_are_no_wait(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds is"):
        Snooze(seconds)


@pytest.mark.parametrize("fraction", [-0.01, 1.01, float("nan"), float("inf"), True, "0.5"])
def test_progress_refuses_when_its_fraction_is_none(fraction: Any) -> None:
    with pytest.raises(ValueError, match="fraction is"):
        CONTEXT.progress(fraction)


def test_progress_refuses_a_message_that_is_no_text() -> None:
    with pytest.raises(ValueError, match="message is"):
        CONTEXT.progress(0.5, 8)  # type: ignore[arg-type]  # what the test is about


def test_progress_is_told_with_its_message_cut() -> None:
    told: list[tuple[float | None, str | None]] = []
    context = a_context(report_progress=lambda *progress: told.append(progress))
    for progress in ((0, None), (1, "x" * 501), (None, "looking")):
        context.progress(*progress)
    assert told == [(0, None), (1, "x" * 500), (None, "looking")]


def test_errors_carry_what_the_handler_said() -> None:
    assert (str(Retry("soon", after=0)), Retry().after) == ("soon", None)
    assert isinstance(InvalidPayload("x"), Fail)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"queue": "Mail"}, "queue of test is 'Mail': give a small letter"),
        ({"queue": "mail.high"}, "queue of test is 'mail.high'"),
        ({"priority": "urgent"}, "priority of test is 'urgent': give high, medium or low"),
    ],
)
def test_decorator_refuses_when_its_queue_or_priority_is_bad(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        task("test", **options)
