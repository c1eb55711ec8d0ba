"""``http.request``: one HTTP request to somebody else's server, as webhooks need it."""

import ipaddress
import math
import socket
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, Literal

import aiohttp
from aiohttp.connector import AddrInfoType
from multidict import CIMultiDict
from pydantic import HttpUrl
from yarl import URL

from aftercommit import Context, Fail, Handler, Retry, task

TYPE: Final = "http.request"
RETRIED: Final = frozenset({408, 429})
LONGEST_RETRY_AFTER_SECONDS: Final = 86_400.0

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class PrivateAddressRefused(OSError):
    """The name led to an address inside: nothing is connected to it."""


class HttpRequests:
    """The handler and the connection pool it needs. Redirects are off: each would need the same checks again."""

    def __init__(self, *, allow_private_addresses: bool, max_response_bytes: int) -> None:
        self._allow_private_addresses = allow_private_addresses
        self._max_response_bytes = max_response_bytes
        self._session: aiohttp.ClientSession | None = None

    def handler(self) -> Handler:
        @task(TYPE, timeout_seconds=60)
        async def http_request(
            url: HttpUrl,
            context: Context,
            method: Method = "POST",
            headers: dict[str, str] | None = None,
            json: Any = None,
        ) -> dict[str, Any]:
            """2xx succeeds. 408, 429, 5xx and a failed connection retry; every other answer fails for good."""
            request_headers = CIMultiDict({"Idempotency-Key": str(context.task_id)})
            request_headers.update(headers or {})
            try:
                async with self._open().request(
                    method,
                    URL(str(url), encoded=True),
                    headers=request_headers,
                    json=json,
                    allow_redirects=False,
                ) as response:
                    return await self._conclude(response)
            except PrivateAddressRefused as error:
                raise Fail(str(error)) from None
            except (aiohttp.InvalidURL, ValueError, UnicodeError) as error:
                raise Fail(f"the request cannot be made: {error}") from error
            except aiohttp.ClientConnectorError as error:
                if isinstance(error.os_error, PrivateAddressRefused):
                    raise Fail(str(error.os_error)) from None
                raise Retry(f"no connection: {error}") from error
            except (aiohttp.ClientError, OSError) as error:
                raise Retry(f"the connection failed: {type(error).__name__}: {error}") from error

        return http_request

    async def _conclude(self, response: aiohttp.ClientResponse) -> dict[str, Any]:
        answer = f"{response.method} {response.url.origin()} answered {response.status}"
        if response.status in RETRIED or response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Retry(answer, after=retry_after_seconds(response.headers.get("Retry-After")))
        body = await self._read(response)
        if not response.ok or response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise Fail(f"{answer}: {body[:500]}")
        return {"status": response.status, "body": body}

    async def _read(self, response: aiohttp.ClientResponse) -> str:
        kept = bytearray()
        async for chunk in response.content.iter_any():
            kept += chunk
            if len(kept) > self._max_response_bytes:
                del kept[self._max_response_bytes :]
                response.close()
                break
        return kept.decode("utf-8", "replace")

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, socket_factory=self._make_socket)
            # The task's own timeout bounds the request as a whole.
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None, connect=30),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,
            )
        return self._session

    def _make_socket(self, address: AddrInfoType) -> socket.socket:
        """A socket for an address that is about to be connected to: the check cannot be outrun by DNS."""
        family, kind, protocol, _, place = address
        if not self._allow_private_addresses and not is_public(str(place[0])):
            # In the same words for each address: only then aiohttp raises it as it is for a name that has several.
            raise PrivateAddressRefused(
                "the host has no public address; HTTP_ALLOW_PRIVATE_ADDRESSES=true would allow private ones"
            )
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public Internet; IPv4 inside IPv6 is judged as IPv4."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo[1] if parsed.teredo else None)
        if inner is not None:
            parsed = inner
        elif parsed in _NAT64:
            parsed = ipaddress.IPv4Address(int(parsed) & 0xFFFF_FFFF)
        elif parsed not in _GLOBAL_UNICAST:
            return False
    return parsed.is_global and not parsed.is_multicast and parsed not in _PROTOCOL_ASSIGNMENTS


_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_PROTOCOL_ASSIGNMENTS: Final = ipaddress.IPv4Network("192.0.0.0/24")
"""Clouds keep metadata services there, and older Pythons hold it for public."""


def retry_after_seconds(value: str | None) -> float | None:
    """``Retry-After`` (RFC 9110, 10.2.3) as seconds from now, at most a day; None where it says nothing usable."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdecimal():
        seconds = float(text)
    else:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError):  # a year, hour or offset of twenty digits overflows
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = math.ceil((moment - datetime.now(UTC)).total_seconds())
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)
