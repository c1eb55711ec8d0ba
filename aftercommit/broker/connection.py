"""One AMQP connection that is opened when it is needed and again when it was lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection

from aftercommit.broker.broker_errors import BROKER_ERRORS, describe, unavailable
from aftercommit.core.errors import BrokerUnavailable

log = structlog.get_logger(__name__)

CONNECT_SECONDS: Final = 10.0
CALL_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 2.0
HEARTBEAT_SECONDS: Final = 10
"""A half-open connection is noticed after about three of these."""

MOST_UNANSWERED: Final = 16
"""Channels whose close the broker did not answer. With more of them a connection is replaced: each holds one of its
channel numbers."""


class _Connection(aio_pika.Connection):
    """Closed by ``BrokerConnection`` alone. The library closes one that is collected, too, which outside of a running
    loop leaves a coroutine that nobody awaits."""

    def __del__(self) -> None:
        pass


class BrokerConnection:
    """A connection for one purpose: publishing and consuming never share one, since a blocked publisher would
    hold up acknowledgements."""

    def __init__(self, url: str, *, name: str) -> None:
        self._url = url
        self._name = name
        self._connection: AbstractConnection | None = None
        self._opening = asyncio.Lock()
        self._unanswered = 0
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        """A channel for one block, which may take CALL_SECONDS. It is closed after the block, whatever happens in it.

        An error by which the broker closes the channel is raised as it is; any other becomes BrokerUnavailable.
        """
        channel = await self.open_channel()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                yield channel
        except aio_pika.exceptions.ChannelClosed:
            raise
        except BROKER_ERRORS as error:
            raise unavailable(error) from error
        finally:
            await self.close_channel(channel)

    async def open_channel(self, *, publisher_confirms: bool = False) -> AbstractChannel:
        """A new channel, on the connection there is or a new one; end it by ``close_channel``. Raises
        BrokerUnavailable."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await self._connect()
                # Without on_return_raises a returned message would pass for a confirmed one.
                return await connection.channel(
                    publisher_confirms=publisher_confirms, on_return_raises=publisher_confirms
                )
        except BROKER_ERRORS as error:
            if isinstance(error, TimeoutError):
                self._leave_unanswered()
            raise unavailable(error) from error

    async def close_channel(self, channel: AbstractChannel) -> None:
        """Close a channel without waiting long for a broker that does not answer."""
        # In a task of its own: of a close that is cut short aiormq sends a second one, which costs the connection.
        closing = self._keep(asyncio.create_task(self._close(channel)))
        await asyncio.wait([closing], timeout=CLOSE_SECONDS)
        if not closing.done():
            self._leave_unanswered()

    def _keep(self, closing: asyncio.Task[None]) -> asyncio.Task[None]:
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        return closing

    def _leave_unanswered(self) -> None:
        """Give the connection up when it has gathered too many channels that do not close."""
        self._unanswered += 1
        if self._unanswered > MOST_UNANSWERED:
            self._drop()

    def _drop(self) -> None:
        """Give the connection up without a word: the broker does not answer on it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            log.warning("broker_connection_dropped", connection=self._name, unanswered_channels=self._unanswered)
            self._keep(asyncio.create_task(self._close(connection)))

    async def _connect(self) -> AbstractConnection:
        async with self._opening:
            if self._connection is None or self._connection.is_closed or self._is_torn(self._connection):
                if self._connection is not None:
                    self._keep(asyncio.create_task(self._close(self._connection)))
                    self._connection = None
                self._connection = await aio_pika.connect(
                    self._url,
                    heartbeat=HEARTBEAT_SECONDS,
                    client_properties={"connection_name": self._name},
                    connection_class=_Connection,
                )
                self._unanswered = 0
                log.info("broker_connected", connection=self._name)
            return self._connection

    @staticmethod
    def _is_torn(connection: AbstractConnection) -> bool:
        return connection.transport is None or not connection.transport.connection.is_opened

    async def wait_unblocked(self, seconds: float) -> None:
        """Wait until the broker takes publishes. Raises BrokerUnavailable when an alarm lasts longer."""
        transport = self._connection.transport if self._connection else None
        if transport is None:
            raise BrokerUnavailable("RabbitMQ is not connected.")
        try:
            async with asyncio.timeout(seconds):
                await transport.connection.ready()
        except TimeoutError:
            raise BrokerUnavailable(
                "RabbitMQ blocks publishers: it raised a memory or disk alarm. Free memory or disk space on it."
            ) from None

    async def close(self) -> None:
        """Close the connection, if one is open, without waiting long for a broker that does not answer."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._keep(asyncio.create_task(self._close(connection)))
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSE_SECONDS)

    async def _close(self, closable: AbstractChannel | AbstractConnection) -> None:
        try:
            await closable.close()
        except BROKER_ERRORS as error:
            log.debug("broker_close_failed", connection=self._name, error=describe(error))
