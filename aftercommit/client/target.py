"""Where the service is, how a client makes itself known, and how long it tries."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import httpx

import aftercommit
from aftercommit.client.call import Call
from aftercommit.client.tries import Tries

URL_VARIABLE: Final = "AFTERCOMMIT_URL"
API_KEY_VARIABLE: Final = "AFTERCOMMIT_API_KEY"

LARGEST_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class Target:
    """``url`` has no slash at its end. A call has ``timeout`` seconds, each of its tries ``try_timeout``."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    timeout: float
    try_timeout: float

    @classmethod
    def read(cls, url: str | None, *, api_key: str | None, timeout: float, try_timeout: float) -> Self:
        """URL and key are taken from the environment where they are not given. Raises ValueError."""
        if not (timeout > 0 and try_timeout > 0):
            raise ValueError(f"timeout is {timeout!r} and try_timeout {try_timeout!r}: give seconds above 0")
        url = url or os.environ.get(URL_VARIABLE)
        if not url:
            raise ValueError(f"no URL: give one, such as http://127.0.0.1:8000, or set {URL_VARIABLE}")
        headers = {"Accept": "application/json", "User-Agent": f"aftercommit/{aftercommit.__version__}"}
        if api_key := api_key or os.environ.get(API_KEY_VARIABLE):
            if not re.fullmatch(r"[!-~]+", api_key):
                raise ValueError("the API key has characters other than visible ASCII: look for a space or a line end")
            headers["Authorization"] = f"Bearer {api_key}"
        return cls(checked_url(url), headers, timeout, try_timeout)

    def tries(self, call: Call[Any]) -> Tries:
        """Those of a call that begins now."""
        return Tries(call, timeout=self.timeout, try_timeout=self.try_timeout)

    def request(self, call: Call[Any], tries: Tries) -> dict[str, Any]:
        """The arguments of httpx's ``request`` for the try that begins now."""
        return {
            "method": call.method,
            "url": self.url + call.filled_path,
            "params": call.query,
            "headers": {**self.headers, **call.headers},
            "content": call.body,
            "timeout": tries.next_timeout(),
        }


def checked_url(url: str) -> str:
    """``url`` without slashes at its end. Raises ValueError when no API can be there."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"the URL of the API cannot be read: {error}") from None
    if parsed.userinfo:
        raise ValueError("the URL of the API has a user or password in it: give api_key, or http_client with auth=")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"{url!r} is not the URL of an API: write it like http://127.0.0.1:8000")
    if parsed.port is not None and not 0 < parsed.port <= LARGEST_PORT:
        raise ValueError(f"{url!r} has a port that there is not: give 1 to {LARGEST_PORT}")
    if parsed.query or parsed.fragment:
        raise ValueError(f"{url!r} has more than host, port and path: leave out what begins with ? or #")
    return url.rstrip("/")
