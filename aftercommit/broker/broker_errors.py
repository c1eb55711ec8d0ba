"""What an error of the broker or its client means, in a sentence for whoever operates the service. Pure."""

import asyncio
from collections.abc import Sequence
from typing import Final

from aio_pika.exceptions import CONNECTION_EXCEPTIONS, AuthenticationError, ProbableAuthenticationError
from aiormq.exceptions import ChannelAccessRefused, ChannelClosed, ConnectionClosed, InvalidFrameError

from aftercommit.core.errors import BrokerUnavailable

BROKER_ERRORS: Final = (*CONNECTION_EXCEPTIONS, asyncio.TimeoutError)
"""What aio-pika raises when the broker is away, refuses us, closes on us or stays silent."""


def unavailable(error: BaseException) -> BrokerUnavailable:
    """The error that a caller gets for ``error``."""
    return BrokerUnavailable(sentence(error))


_SENTENCES: Final[Sequence[tuple[type[BaseException], str]]] = (
    (ProbableAuthenticationError, "RabbitMQ refuses the login: check the user and the password in RABBITMQ_URL."),
    (AuthenticationError, "RabbitMQ knows no way of logging in that we do: {error}"),
    (ChannelAccessRefused, "RabbitMQ denies access, check the user's permissions: {error}"),
    (ChannelClosed, "RabbitMQ closed the channel: {error}"),
    (ConnectionClosed, "RabbitMQ closed the connection: {error}"),
    (TimeoutError, "RabbitMQ did not answer in time."),
    (OSError, "RabbitMQ cannot be reached: {error}"),
)
_BROKEN: Final = "The connection to RabbitMQ broke: {error}"
_NO_VHOST: Final = (
    "RabbitMQ refuses the vhost: check that the one in RABBITMQ_URL exists, and that the user may use it."
)


def sentence(error: BaseException) -> str:
    """What is wrong. "Cannot be reached" is said only of a broker that could not be reached."""
    if isinstance(error, InvalidFrameError) and "Connection.OpenOk" in str(error):
        # The broker's answer to the vhost's name; aiormq drops its words.
        return _NO_VHOST
    known = (text for kind, text in _SENTENCES if isinstance(error, kind))
    return next(known, _BROKEN).format(error=describe(error))


def describe(error: BaseException) -> str:
    """An AMQP error in a few words; some of them have no text of their own."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
