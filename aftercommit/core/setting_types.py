"""The types of single settings: how each is read from text, its unit, and its range."""

from enum import StrEnum
from typing import Annotated, Any

import yarl
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from aftercommit.core.queues import WorkQueuePattern, parse_queue


class SchemaCheck(StrEnum):
    """What becomes of a submit that does not fit what workers declared of its type."""

    REJECT = "reject"
    WARN = "warn"
    OFF = "off"


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _parse_queue(value: Any) -> str:
    return parse_queue(str(value))


def _parse_share(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    name, colon, weight = value.partition(":")
    if colon and not (weight.isascii() and weight.isdecimal() and int(weight) > 0):
        raise ValueError(f"the weight of {value!r} is not a whole number above 0: write tasks.high:6")
    return WorkQueuePattern.parse(name), int(weight) if colon else None


def _check_address(value: str) -> str:
    try:
        host = yarl.URL(value).host
    except ValueError:
        host = None
    if not host:
        # The parser's own words could quote a password.
        raise ValueError("is not scheme://user:password@host:port/path; write / # ? @ in a password as %2F %23 %3F %40")
    return value


def _check_module(name: str) -> str:
    if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"{name!r} is not the name of a module: write shop.tasks for shop/tasks.py")
    return name


BrokerUrl = Annotated[str, Field(pattern=r"^amqps?://"), AfterValidator(_check_address)]
HttpUrl = Annotated[str, Field(pattern=r"^https?://"), AfterValidator(_check_address)]
Dsn = Annotated[str, Field(pattern=r"^postgres(ql)?://")]
Port = Annotated[int, Field(ge=1, le=65_535)]

Share = tuple[WorkQueuePattern, int | None]
"""Work queues and their weight; None: strict order."""

Modules = Annotated[tuple[Annotated[str, AfterValidator(_check_module)], ...], NoDecode, BeforeValidator(_split)]
Queues = Annotated[
    tuple[Annotated[str, BeforeValidator(_parse_queue)], ...], NoDecode, BeforeValidator(_split), Field(min_length=1)
]
Shares = Annotated[
    tuple[Annotated[Share, BeforeValidator(_parse_share)], ...],
    NoDecode,
    BeforeValidator(_split),
    Field(min_length=1),
]
Delays = Annotated[
    tuple[Annotated[int, Field(ge=1, le=86_400)], ...],
    NoDecode,
    BeforeValidator(_split),
    Field(min_length=1, max_length=50),
]
"""Whole seconds. Each different one is three queues in RabbitMQ."""

Duration = Annotated[float, Field(ge=0.01, le=604_800)]
"""Seconds, from 10 ms (a shorter interval keeps a core busy with waiting) to a week."""

Retention = Annotated[float, Field(ge=0, le=3_153_600_000)]
"""Seconds, up to a hundred years; 0 for ever."""

Lease = Annotated[float, Field(ge=1, le=3_600)]
"""Seconds. A shorter lease is lost to any pause of a process or of the network; so much later a lost task is found."""

Renewal = Annotated[float, Field(ge=0.1, le=1_800)]
"""Seconds between renewals of a lease."""

HandBack = Annotated[float, Field(ge=0.01, le=900)]
"""Seconds. RabbitMQ closes the channel of a consumer that answers nothing for half an hour."""

Confirm = Annotated[float, Field(ge=0.1, le=25)]
"""Seconds that the relay's transaction may wait for RabbitMQ. Postgres ends one that does nothing for 30."""

PayloadBytes = Annotated[int, Field(ge=1, le=67_108_864)]
"""Up to 64 MiB: a worker holds a payload for each of its slots."""

ResultBytes = Annotated[int, Field(ge=1_024, le=67_108_864)]
"""From 1 KiB, which short results need, to 64 MiB: many of them are written by one statement."""

BodyBytes = Annotated[int, Field(ge=1, le=536_870_912)]
"""Up to 512 MiB: a body becomes one statement, of which Postgres takes 1 GiB."""
