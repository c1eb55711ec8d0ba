"""An upgrade migrates first: the release before this one runs on, on the new schema."""

import asyncio
import os
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from aftercommit.core.settings import Settings
from aftercommit.devstack.ports import free_port
from tests.integration.service import Api, Service

ROOT = Path(__file__).parents[2]
STOP_SECONDS = 40
SCHEMA_OF_ITS_OWN = "0004_schema_of_its_own.py"


def git(*arguments: str) -> str:
    """Its output, empty where git or what was asked for is not there."""
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def previous_release() -> str:
    """The newest version's tag before this commit; before there is one, the previous commit. Empty where unknown."""
    named = os.environ.get("PREVIOUS_RELEASE", "")
    found = named or git("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*", "HEAD~1") or "HEAD~1"
    return git("rev-parse", "--verify", "--quiet", f"{found}^{{commit}}")


@pytest.fixture
def old_code(tmp_path: Path) -> Path:
    """A folder with the previous release's code."""
    release = previous_release()
    if not release:
        pytest.skip("git knows no commit before this one: a shallow clone, an archive, or the first commit")
    archive = subprocess.run(["git", "archive", release], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(tmp_path)], input=archive, check=True)
    if not (tmp_path / "alembic/versions" / SCHEMA_OF_ITS_OWN).exists():
        pytest.skip("the tables moved into a schema of their own: documents/how-to/deploy-upgrade.md says so")
    return tmp_path


@asynccontextmanager
async def old_role(module: str, code: Path, settings: Settings, **extra: str) -> AsyncIterator[Process]:
    """The process of a role, run from ``code``; ended in order."""
    environment = {
        "PATH": os.environ["PATH"],
        "POSTGRES_HOST": settings.postgres_host,
        "POSTGRES_PORT": str(settings.postgres_port),
        "POSTGRES_USER": settings.postgres_user,
        "POSTGRES_PASSWORD": settings.postgres_password,
        "POSTGRES_DB": settings.postgres_db,
        "RABBITMQ_URL": settings.rabbitmq_url,
        "RETRY_DELAYS_SECONDS": "1,2",
        "WORKER_MODULES": "tests.integration.handlers",
        "WORKER_SHUTDOWN_SECONDS": "1",
        **extra,
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, cwd=code, env=environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()


async def test_previous_release_works_on_the_new_schema_and_hands_over_to_this_one(
    service: Service, settings: Settings, old_code: Path
) -> None:
    port = free_port()
    await service.declare()
    async with (
        old_role("app.api.run", old_code, settings, API_PORT=str(port)),
        old_role("app.maintenance.run", old_code, settings),
        old_role("app.outbox.run", old_code, settings) as relay,
        old_role("app.workers.run", old_code, settings) as worker,
        aiohttp.ClientSession() as session,
    ):
        old_api = Api(f"http://127.0.0.1:{port}", session)
        await until_up(old_api)
        await run_one_of_each(old_api)
        # As documents/how-to/deploy-upgrade.md orders it: relays first, since they alone read what both releases write.
        await stop(relay)
        await service.relay()
        await run_one_of_each(old_api)
        api = await service.api()
        await run_one_of_each(api)
        cut_short = await api.submit("test.sleep", payload={"seconds": 3}, max_retries=0)
        await service.until("SELECT status = 'running' FROM aftercommit.tasks WHERE id = :id", id=cut_short["id"])
        # A rolling deploy: the old worker releases what it cannot finish, a new one runs it.
        await stop(worker)
        await service.worker()
        done = await api.get(cut_short["id"], wait=30)
        assert (done["status"], done["attempt"]) == ("succeeded", 2)


async def run_one_of_each(api: Api) -> None:
    """Tasks that succeed at once, after a retry through RabbitMQ, after one through the scheduler, and never."""
    plain = await api.submit("echo", payload={"n": 1}, priority="high")
    retried = await api.submit("test.fail_until", payload={"attempt": 2})
    scheduled = await api.submit("test.fail_until", payload={"attempt": 2, "after": 0.5})
    failed = await api.submit("test.fail_for_good")
    for task, status in (
        (plain, "succeeded"),
        (retried, "succeeded"),
        (scheduled, "succeeded"),
        (failed, "failed"),
    ):
        assert (await api.get(task["id"], wait=30))["status"] == status


async def until_up(api: Api) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                if (await api.call("GET", "/readyz"))[0] == 200:
                    return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)


async def stop(process: Process) -> None:
    process.terminate()
    await asyncio.wait_for(process.wait(), STOP_SECONDS)
    assert process.returncode == 0
