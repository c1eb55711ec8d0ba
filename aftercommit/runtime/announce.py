"""Writes something down once, after the start of a process, as soon as Postgres is there."""

import asyncio
from collections.abc import Awaitable, Callable

from aftercommit.runtime.poll import poll


async def announce(name: str, write: Callable[[], Awaitable[None]], *, stopping: asyncio.Event) -> None:
    """Call ``write`` until it has succeeded once, and return when ``stopping`` is set. Its failures are logged as those
    of the loop ``name``."""

    async def once() -> float:
        await write()
        await stopping.wait()
        return 0

    await poll(name, once, stopping=stopping)
