"""The API against its own description: schemathesis tries what the document allows, and what it does not."""

import asyncio
import sys
from pathlib import Path
from uuid import UUID

import pytest

from aftercommit.server.api.completion_waiters import CompletionWaiters
from tests.integration.service import Service
from tests.long_runs import often

CONFIG = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = often(10, long=100)
"""Requests that each phase makes of an operation, at most."""


@pytest.mark.timeout(30 * EXAMPLES)
async def test_api_does_what_its_description_says_when_it_is_fuzzed(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = CompletionWaiters.wait

    async def wait_briefly(watch: CompletionWaiters, task_id: UUID, seconds: float) -> None:
        await wait(watch, task_id, min(seconds, 0.01))

    # Nobody runs the tasks: a generated `?wait=60` would really take a minute.
    monkeypatch.setattr(CompletionWaiters, "wait", wait_briefly)
    api = await service.api()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
        *("run", f"{api.url}/openapi.json", "--max-examples", str(EXAMPLES)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, "\n".join(line[:1_000] for line in output.decode().splitlines())
