"""What there is to know of a peer."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from bench.peers.order import LATENCY, NOOP, SLEEP, SUSTAINED, Order

Command = Callable[[Order], list[str]]
"""From the order to what follows ``python -m``."""


class Server(StrEnum):
    POSTGRES = "postgres"
    RABBITMQ = "rabbitmq"
    REDIS = "redis"


THROUGHPUT: Final = (NOOP, SUSTAINED, SLEEP)
CORES: Final = os.cpu_count() or 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """``packages``: the first is the peer itself, the others are stated with it. ``settings`` tells what differs from
    its defaults and why, ``keeps`` what survives. ``servers`` are those that it uses, whose processor time is its own.
    ``kinds``: what it is measured with. ``unfinished`` asks its tables, where it has any, whether something of so many
    tasks ($1) is left; ``forks``: several processes run the tasks, so none of them counts all. ``pace``: it gets so
    many times the tasks of the others, so that each takes seconds. ``python``: the oldest one that it runs on, where
    ours may be older."""

    name: str
    packages: tuple[str, ...]
    module: str
    worker: Command
    settings: str
    keeps: str
    servers: tuple[Server, ...]
    kinds: tuple[str, ...] = (*THROUGHPUT, LATENCY)
    unfinished: str | None = None
    forks: bool = False
    pace: float = 1
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    python: str = ""


def of_noop_tasks(order: Order) -> bool:
    """Whether the throughput of no-op tasks is measured, where the number of slots is each system's own."""
    return order.kind in (NOOP, SUSTAINED)
