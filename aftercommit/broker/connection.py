"""One AMQP connection that is opened when it is needed and again when it was lost."""

import asyncio
from typing import Final

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from aftercommit.core.errors import BrokerUnavailable

log = structlog.get_logger(__name__)

CONNECT_SECONDS: Final = 10.0
CALL_SECONDS: Final = 10.0
HEARTBEAT_SECONDS: Final = 10
"""A half-open connection is noticed after about three of these."""

BROKER_ERRORS: Final = (*CONNECTION_EXCEPTIONS, asyncio.TimeoutError)
"""What aio-pika raises when the broker is away, closes on us or stays silent."""


class BrokerConnection:
    """A connection for one purpose: publishing and consuming never share one, since a blocked publisher would
    hold up acknowledgements."""

    def __init__(self, url: str, *, name: str) -> None:
        self._url = url
        self._name = name
        self._connection: AbstractConnection | None = None
        self._opening = asyncio.Lock()

    async def open_channel(self, *, publisher_confirms: bool = False) -> AbstractChannel:
        """A new channel, on the connection there is or a new one. Raises BrokerUnavailable."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await self._connect()
                # Without on_return_raises a returned message would pass for a confirmed one.
                return await connection.channel(
                    publisher_confirms=publisher_confirms, on_return_raises=publisher_confirms
                )
        except BROKER_ERRORS as error:
            raise BrokerUnavailable(f"RabbitMQ cannot be reached: {describe(error)}") from error

    async def _connect(self) -> AbstractConnection:
        async with self._opening:
            if self._connection is None or self._connection.is_closed or self._is_torn(self._connection):
                self._connection = await aio_pika.connect(
                    self._url, heartbeat=HEARTBEAT_SECONDS, client_properties={"connection_name": self._name}
                )
                log.info("broker_connected", connection=self._name)
            return self._connection

    @staticmethod
    def _is_torn(connection: AbstractConnection) -> bool:
        return connection.transport is None or not connection.transport.connection.is_opened

    async def wait_unblocked(self, seconds: float) -> None:
        """Wait until the broker takes publishes. Raises BrokerUnavailable when an alarm lasts longer."""
        transport = self._connection.transport if self._connection else None
        if transport is None:
            raise BrokerUnavailable("RabbitMQ is not connected")
        try:
            async with asyncio.timeout(seconds):
                await transport.connection.ready()
        except TimeoutError:
            raise BrokerUnavailable("RabbitMQ blocks publishers: it raised a memory or disk alarm") from None

    async def close(self) -> None:
        """Close the connection, if one is open, without waiting long for a broker that does not answer."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                async with asyncio.timeout(2):
                    await connection.close()
            except BROKER_ERRORS as error:
                log.debug("broker_close_failed", connection=self._name, error=describe(error))


def describe(error: BaseException) -> str:
    """An AMQP error in a few words; some of them have no text of their own."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
