"""Task types of one of two code bases that share a queue."""

import asyncio

from aftercommit import task


@task("two.run")
async def run(seconds: float = 0.0) -> str:
    if seconds:
        await asyncio.sleep(seconds)
    return "two"
