"""The little of RabbitMQ's management HTTP API that tests and the devstack need."""

import base64
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote


class Management:
    """Speaks as `guest` to the management plugin at `url`; raises `urllib.error.HTTPError` on a refusal."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._authorization = "Basic " + base64.b64encode(b"guest:guest").decode()
        # Without the environment's proxies: the server is on this machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def call(self, method: str, path: str, body: object | None = None) -> Any:
        request = urllib.request.Request(
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": self._authorization, "Content-Type": "application/json"},
        )
        with self._opener.open(request, timeout=10) as response:
            content = response.read()
        return json.loads(content) if content else None

    def answers(self) -> bool:
        try:
            self.call("GET", "/api/overview")
        except (OSError, ValueError):  # HTTPError is an OSError
            return False
        return True

    def create_vhost(self, name: str) -> None:
        vhost = quote(name, safe="")
        self.call("PUT", f"/api/vhosts/{vhost}", {})
        self.call("PUT", f"/api/permissions/{vhost}/guest", {"configure": ".*", "write": ".*", "read": ".*"})

    def delete_vhost(self, name: str) -> None:
        """Harmless when there is none."""
        try:
            self.call("DELETE", f"/api/vhosts/{quote(name, safe='')}")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
