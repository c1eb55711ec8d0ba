"""What became of a published message. Pure."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelClosed,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
    PublishError,
)

from aftercommit.broker.broker_errors import describe


class Fate(StrEnum):
    CONFIRMED = "confirmed"
    """The broker has it."""

    REFUSED = "refused"
    """Not now: its queue is full, or the user may not write there. It may be taken later, as it is."""

    RETURNED = "returned"
    """No queue takes it, or its exchange does not exist."""

    UNACCEPTABLE = "unacceptable"
    """The broker never takes this message, wherever it goes: too large, say."""

    UNKNOWN = "unknown"
    """No answer came. The broker may or may not have the message, and the message is not to blame."""


@dataclass(frozen=True, slots=True)
class Receipt:
    fate: Fate
    reason: str = ""


CONTENT_TOO_LARGE: Final = 311
"""AMQP's reply code."""

CONFIRMED: Final = Receipt(Fate.CONFIRMED)
UNANSWERED: Final = Receipt(Fate.UNKNOWN, "no confirm came in time")
FULL: Final = Receipt(Fate.REFUSED, "the queue is full")


def read(confirm: asyncio.Future[object]) -> Receipt | ChannelClosed:
    """The receipt of a message whose confirm may have come; ChannelClosed where the broker closed the channel over one
    of those that were under way, and does not say which."""
    if not confirm.done() or confirm.cancelled():
        return UNANSWERED
    match confirm.exception():
        case None:
            return CONFIRMED
        case PublishError() as error:
            return Receipt(Fate.RETURNED, f"no queue takes it: {describe(error)}")
        case DeliveryError():
            return FULL
        case ChannelClosed() as error if _is_about_a_message(error):
            return error
        case error:
            return Receipt(Fate.UNKNOWN, describe(error))


def _is_about_a_message(error: ChannelClosed) -> bool:
    """Not so when the broker closes a channel because it stops, say."""
    known = (ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed)
    return isinstance(error, known) or error.args[:1] == (CONTENT_TOO_LARGE,)


def of_culprit(error: ChannelClosed) -> Receipt:
    """The receipt of the message over which the broker closed the channel."""
    match error:
        case ChannelNotFoundEntity():
            return Receipt(Fate.RETURNED, f"no exchange takes it: {describe(error)}")
        case ChannelAccessRefused():
            return Receipt(Fate.REFUSED, describe(error))
    return Receipt(Fate.UNACCEPTABLE, describe(error))
