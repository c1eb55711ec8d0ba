"""The relay alone, against what it could do at best with a message for each task: raw publishing with confirms."""

import asyncio
import json
import signal
import sys
import time
from typing import Final

from bench.child_process import CHECKOUT, Died
from bench.figures import Figure, Sample, at_least
from bench.ground import Ground
from bench.installation import RELAY, ROLES, WORKER
from bench.scenario import Scenario

NOOP: Final = {"type": "bench.noop"}


async def measure(ground: Ground) -> Sample:
    tasks = ground.sizes.relay
    relayed = tasks / await _relay_seconds(ground, tasks)
    raw = tasks / await _publish_seconds(ground, tasks)
    return {"rate": relayed, "raw": raw, "ratio": relayed / raw}


async def _relay_seconds(ground: Ground, tasks: int) -> float:
    """For a relay that is connected and was held until everything waits."""
    async with ground.installation() as installation:
        await installation.start(*ROLES)
        await installation.warm_up(NOOP, ground.sizes.warm_up)
        await installation.stop(WORKER)
        installation.signal(RELAY, signal.SIGSTOP)
        await installation.submit(NOOP, tasks)
        await installation.settle()
        started_at = time.monotonic()
        installation.signal(RELAY, signal.SIGCONT)
        await installation.until_published()
        return time.monotonic() - started_at


async def _publish_seconds(ground: Ground, messages: int) -> float:
    """In a process of its own, as the relay is."""
    async with ground.installation() as installation:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.raw_publish",
            installation.amqp_url,
            str(messages),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=CHECKOUT,
        )
        printed, complaints = await process.communicate()
        if process.returncode != 0:
            raise Died(f"raw publishing failed:\n{complaints.decode()[-1_500:]}")
    seconds: float = json.loads(printed)
    return seconds


SCENARIO: Final = Scenario(
    "relay",
    "tasks wait in the outbox while one relay, connected, is held: from its release to the empty outbox, no worker "
    "running; raw is aio-pika publishing a message per task with confirms, persistent, mandatory, to a quorum queue, "
    "gathered in batches of 500, in a process of its own",
    (
        Figure("rate", "relay alone", "tasks/s"),
        Figure("raw", "raw aio-pika publish with confirms", "messages/s"),
        Figure("ratio", "relay ÷ raw publish", "×", at_least(3)),
    ),
    measure,
)
