"""What only RabbitMQ's management API tells: how many messages are unacknowledged."""

import asyncio
import base64
import http.client
import json
from typing import Final
from urllib.parse import quote, unquote
from urllib.request import ProxyHandler, Request, build_opener

import structlog
from yarl import URL

from aftercommit.broker.broker_errors import describe

log = structlog.get_logger(__name__)

SECONDS: Final = 3.0


class Management:
    """Of the vhost that ``broker_url`` names. The standard library does: asked seldom, it needs no pool, and a client
    with one costs 10 MB in each API process."""

    def __init__(self, url: str, *, broker_url: str) -> None:
        vhost = URL(broker_url).path.removeprefix("/") or "/"
        address = URL(url)
        self._request = Request(  # noqa: S310  # settings allow http and https only
            f"{str(address.with_user(None)).rstrip('/')}/api/queues/{quote(vhost, safe='')}"
            "?disable_stats=true&enable_queue_totals=true"
        )
        if address.raw_user:
            login = f"{unquote(address.raw_user)}:{unquote(address.raw_password or '')}"
            # Not for whoever we may be sent on to.
            self._request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
        # A proxy of the environment is for the world outside.
        self._opener = build_opener(ProxyHandler({}))

    async def unacknowledged(self) -> dict[str, int]:
        """By queue; nothing when it does not answer."""
        try:
            async with asyncio.timeout(SECONDS):
                queues = json.loads(await asyncio.to_thread(self._get))
            return {queue["name"]: queue.get("messages_unacknowledged", 0) for queue in queues}
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            log.warning("management_api_failed", error=describe(error))
            return {}

    def _get(self) -> bytes:
        with self._opener.open(self._request, timeout=SECONDS) as response:
            body: bytes = response.read()
        return body
