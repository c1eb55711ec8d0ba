"""What the broker says about its queues: depth and consumers over AMQP, unacknowledged from the management API."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import aiohttp
import structlog
from aio_pika.exceptions import ChannelNotFoundEntity
from yarl import URL

from app.broker.connection import BROKER_ERRORS, CALL_SECONDS, BrokerConnection, describe
from app.errors import BrokerUnavailable

log = structlog.get_logger(__name__)

MANAGEMENT_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class BrokerQueue:
    """``unacknowledged`` is None where no management API is set or it does not answer."""

    ready: int
    consumers: int
    unacknowledged: int | None


class Inspector:
    """Looks at queues passively, on a connection of its own."""

    def __init__(self, connection: BrokerConnection, *, url: str, management_url: str | None) -> None:
        self._connection = connection
        self._vhost = URL(url).path.removeprefix("/") or "/"
        self._management_url = management_url

    async def check(self) -> None:
        """Raises BrokerUnavailable when the broker does not answer."""
        channel = await self._connection.open_channel()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await channel.close()
        except BROKER_ERRORS as error:
            raise BrokerUnavailable(f"RabbitMQ cannot be reached: {describe(error)}") from error

    async def look(self, names: Sequence[str]) -> dict[str, BrokerQueue]:
        """The queues of these names that exist. Raises BrokerUnavailable."""
        unacknowledged, depths = await asyncio.gather(
            self._unacknowledged(), asyncio.gather(*(self._depth(name) for name in names))
        )
        return {
            name: BrokerQueue(depth[0], depth[1], unacknowledged.get(name))
            for name, depth in zip(names, depths, strict=True)
            if depth is not None
        }

    async def _depth(self, name: str) -> tuple[int, int] | None:
        # A channel each: a queue that does not exist costs the channel.
        channel = await self._connection.open_channel()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                queue = await channel.declare_queue(name, passive=True)
                found = queue.declaration_result
                await channel.close()
        except ChannelNotFoundEntity:
            return None
        except BROKER_ERRORS as error:
            raise BrokerUnavailable(f"RabbitMQ cannot be reached: {describe(error)}") from error
        return found.message_count or 0, found.consumer_count or 0

    async def _unacknowledged(self) -> dict[str, int]:
        if self._management_url is None:
            return {}
        address = f"{self._management_url.rstrip('/')}/api/queues/{quote(self._vhost, safe='')}"
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(MANAGEMENT_SECONDS)) as session,
                session.get(
                    URL(address, encoded=True), params={"disable_stats": "true", "enable_queue_totals": "true"}
                ) as response,
            ):
                response.raise_for_status()
                queues = await response.json()
                return {queue["name"]: queue.get("messages_unacknowledged", 0) for queue in queues}
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
            log.warning("management_api_failed", error=describe(error))
            return {}
