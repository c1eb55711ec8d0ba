"""Task types of one of two code bases that share a queue."""

import asyncio

from aftercommit import task


@task("bench.one")
async def run(seconds: float = 0.0) -> None:
    if seconds:
        await asyncio.sleep(seconds)
