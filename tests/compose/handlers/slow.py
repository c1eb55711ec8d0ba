"""The handler that the compose tests mount."""

import asyncio
import os
import socket

from aftercommit import task


@task("slow.sleep")
async def sleep(seconds: float) -> str:
    """Returns which container ran it."""
    await asyncio.sleep(seconds)
    return socket.gethostname()


@task("slow.isolated", isolated=True)
def isolated() -> int:
    """Returns the process it ran in."""
    return os.getpid()
