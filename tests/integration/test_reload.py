"""``aftercommit worker --reload``: what runs at a change goes back uncharged and runs again with the new code."""

import sys
from pathlib import Path

from tests.integration.conftest import ROOT
from tests.integration.service import Service
from tests.integration.wheel import Running, environment_of

SLOW = """
import asyncio
from aftercommit import task

@task("report", max_retries=0)
async def report() -> str:
    await asyncio.sleep(300)
    return "old"
"""
MENDED = """
from aftercommit import task

@task("report", max_retries=0)
async def report() -> str:
    return "new"
"""


async def test_change_of_a_handler_releases_what_runs_and_runs_it_anew(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "reports.py"
    file.write_text(SLOW)
    api = await service.api()
    await service.relay()
    await service.maintenance()
    command = [sys.executable, "-m", "aftercommit", "worker", "--reload", "--modules", "reports"]
    settings = environment_of(service.settings) | {"PYTHONPATH": str(ROOT)}
    with Running(command, folder=tmp_path, log=tmp_path / "log", settings=settings) as worker:
        task = await api.submit("report")
        await service.until("SELECT status = 'running' FROM aftercommit.tasks")
        file.write_text("def broken(:\n")
        await service.until("SELECT status = 'queued' FROM aftercommit.tasks")
        worker.until(lambda: "waits for the next change" in worker.said())
        assert "SyntaxError" in worker.said()
        file.write_text(MENDED)
        finished = await api.get(task["id"], wait=60)
        assert (finished["status"], finished["result"]) == ("succeeded", "new"), worker.said()
        assert [attempt["outcome"] for attempt in await api.attempts(task["id"])] == ["released", "succeeded"]
        assert worker.stop() == 0
