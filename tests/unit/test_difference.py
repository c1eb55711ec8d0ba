"""What RabbitMQ 3.10 and 4.3 say when a queue exists with other arguments."""

import pytest

from aftercommit.broker.difference import UNKNOWN, Difference
from aftercommit.broker.topology import MAX_DELIVERIES

START = "PRECONDITION_FAILED - inequivalent arg"
IN = "for queue 'tasks.high' in vhost '/':"


@pytest.mark.parametrize(
    ("refusal", "argument", "current"),
    [
        (f"{START} 'x-delivery-limit' {IN} received '1000' but current is '20'", "x-delivery-limit", 20),
        (f"{START} 'x-delivery-limit' {IN} received '1000' but current is none", "x-delivery-limit", None),
        (
            f"{START} 'x-max-length' {IN} received none but current is the value '5' of type 'byte'",
            "x-max-length",
            5,
        ),
        (
            f"{START} 'x-max-length' {IN} received the value '5' of type 'byte' but current is none",
            "x-max-length",
            None,
        ),
        (f"{START} 'x-queue-type' {IN} received 'quorum' but current is 'stream'", "x-queue-type", "stream"),
        (
            f"{START} 'x-dead-letter-exchange' {IN} received none but current is the value '' of type 'longstr'",
            "x-dead-letter-exchange",
            "",
        ),
        (f"{START} 'durable' {IN} received 'true' but current is 'false'", "durable", "false"),
        # Cut after 255 bytes.
        (f"{START} 'x-delivery-limit' for queue 'tasks.high' in vhost '{'v' * 180}", "x-delivery-limit", UNKNOWN),
    ],
)
def test_refusal_tells_the_argument_and_its_current_value(
    refusal: str, argument: str, current: str | int | None
) -> None:
    difference = Difference.read(refusal, {"x-delivery-limit": MAX_DELIVERIES})
    assert difference is not None
    assert (difference.argument, difference.current) == (argument, current)


def test_refusal_about_something_else_is_no_difference() -> None:
    assert Difference.read("PRECONDITION_FAILED - invalid arg 'x-overflow' for queue 'a' in vhost '/'", {}) is None


def test_current_value_takes_the_place_of_the_wanted_one() -> None:
    arguments = {"x-delivery-limit": 1000, "x-overflow": "reject-publish"}
    assert Difference("x-delivery-limit", 20, 1000).applied(arguments) == {**arguments, "x-delivery-limit": 20}
    assert Difference("x-delivery-limit", None, 1000).applied(arguments) == {"x-overflow": "reject-publish"}
    assert Difference("x-max-length", 5, None).applied(arguments) == {**arguments, "x-max-length": 5}
    assert str(Difference("x-max-length", 5, None)) == "x-max-length is 5 (this release declares none)"
