"""The processes of one Aftercommit: what a deployment would run as separate services."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Role:
    """One process, which calls `main()` of `module`. One that `reloads` is started again when its code changes."""

    name: str
    module: str
    settings: Callable[[], Mapping[str, str]] = dict
    """Its own settings, asked for at each start."""
    reloads: bool = False


def worker(modules: Callable[[], list[str]]) -> Role:
    """Work queues are served in the order of the settings, as in a deployment. At a stop running tasks have a second;
    what they did not finish by then is released, and nobody waits for it at each change."""

    def settings() -> dict[str, str]:
        return {"WORKER_MODULES": ",".join(modules()), "WORKER_SHUTDOWN_SECONDS": "1"}

    return Role("worker", "aftercommit.worker.run", settings, reloads=True)


def roles(*, api_address: Callable[[], tuple[str, int]], modules: Callable[[], list[str]]) -> list[Role]:
    """One process of each. The worker's log tells what it runs, the others' what is wrong."""

    def quiet() -> dict[str, str]:
        return {} if "LOG_LEVEL" in os.environ else {"LOG_LEVEL": "warning"}

    def api() -> dict[str, str]:
        host, port = api_address()
        return quiet() | {"API_HOST": host, "API_PORT": str(port)}

    return [
        Role("api", "aftercommit.server.api.run", api),
        Role("relay", "aftercommit.server.relay.run", quiet),
        Role("maintenance", "aftercommit.server.maintenance.run", quiet),
        worker(modules),
    ]
