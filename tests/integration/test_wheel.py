"""The wheel in empty environments: what each extra brings, a worker beside a project's own ``app``, and the whole
service from nothing but ``aftercommit[dev]``."""

import re
import time
import zipfile
from pathlib import Path

import pytest

from aftercommit.core.settings import Settings
from aftercommit.db.schema_version import HEAD
from aftercommit.devstack.binaries import find_postgres, find_rabbitmq
from aftercommit.devstack.servers import Servers
from tests.integration.conftest import ROOT, connect_admin
from tests.integration.service import Service
from tests.integration.wheel import Environment, Running, build, call, environment_of

pytestmark = pytest.mark.timeout(400)

HANDLERS = """
from aftercommit import Context, task

from app.prices import price

@task("order.total")
async def total(items: list[str], context: Context) -> int:
    return sum(price(item) for item in items)

@task("order.crash-proof", isolated=True)
def isolated(item: str) -> int:
    return price(item)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def everything(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with all that there is."""
    return Environment(tmp_path_factory.mktemp("everything") / "venv", wheel, "dev")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A backend whose own code is in ``app``."""
    app = tmp_path / "project" / "app"
    app.mkdir(parents=True)
    (app / "__init__.py").write_text("")
    (app / "prices.py").write_text("def price(item: str) -> int:\n    return len(item)\n")
    (app / "tasks.py").write_text(HANDLERS)
    return app.parent


def test_wheel_has_one_package_with_its_migrations(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"aftercommit"}
    assert "aftercommit/_migrations/env.py" in names
    assert any(name.startswith(f"aftercommit/_migrations/versions/{HEAD}") for name in names)
    assert "aftercommit/_migrations/functions/0009/submit_task.sql" in names
    assert "aftercommit/py.typed" in names


def test_base_install_is_light_and_tells_what_is_missing(wheel: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv", wheel)
    assert not environment.packages() & {"fastapi", "alembic", "asyncpg", "aio-pika", "sqlalchemy", "aiohttp"}
    page = (ROOT / "documents/reference/python.md").read_text()
    rows = re.findall(r"^\| (`.+`) \| .+ \|$", page[: page.index("## `task`")], re.MULTILINE)
    assert environment.packages() == {"aftercommit", *(name for row in rows for name in re.findall(r"`([\w-]+)`", row))}
    environment.run("python", "-c", "from aftercommit import Client; Client('http://127.0.0.1:8000').close()")
    handler = "from aftercommit import Context, Fail, Retry, task\n@task('a')\ndef a(n: int): return n\nprint(a(n=3))"
    assert environment.run("python", "-c", handler) == "3\n"
    assert re.fullmatch(r"aftercommit \d+\.\d+\.\d+\n", environment.run("aftercommit", "--version"))
    assert "pip install 'aftercommit[worker]'" in environment.refusal("aftercommit", "worker")
    assert "pip install 'aftercommit[dev]'" in environment.refusal("aftercommit", "dev")


async def test_worker_install_runs_the_handlers_of_a_project_s_own_app(
    wheel: Path, project: Path, tmp_path: Path, service: Service
) -> None:
    environment = Environment(tmp_path / "venv", wheel, "worker")
    assert not environment.packages() & {"fastapi", "starlette", "uvicorn", "alembic"}
    assert "pip install 'aftercommit[server]'" in environment.refusal("aftercommit", "api")
    api = await service.api()
    await service.relay()
    await service.maintenance()
    command = [environment.path("aftercommit"), "worker", "--modules", "app.tasks"]
    with Running(
        command, folder=project, log=tmp_path / "worker.log", settings=environment_of(service.settings)
    ) as worker:
        plain = await api.submit("order.total", payload={"items": ["pen", "ink"]})
        isolated = await api.submit("order.crash-proof", payload={"item": "paper"})
        finished = [await api.get(task["id"], wait=60) for task in (plain, isolated)]
        assert [(task["status"], task["result"]) for task in finished] == [("succeeded", 6), ("succeeded", 5)], (
            worker.said()
        )
        assert worker.stop() == 0


async def test_migrate_works_from_the_wheel(everything: Environment, servers: Servers, settings: Settings) -> None:
    admin = await connect_admin(servers)
    empty = f"{settings.postgres_db}_empty"
    await admin.execute(f"CREATE DATABASE {empty}")
    try:
        variables = environment_of(settings) | {"POSTGRES_DB": empty}
        for _ in range(2):
            assert everything.run("aftercommit", "migrate", settings=variables) == f"The database is at {HEAD}.\n"
    finally:
        await admin.execute(f"DROP DATABASE {empty} WITH (FORCE)")
        await admin.close()


@pytest.mark.skipif(not (find_postgres() and find_rabbitmq()), reason="PostgreSQL or RabbitMQ is not installed here")
def test_dev_runs_the_whole_service_in_an_empty_folder(everything: Environment, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    command = [everything.path("aftercommit"), "dev"]
    started = time.monotonic()
    with Running(command, folder=folder, log=tmp_path / "first.log", settings={}) as first:
        first.until(lambda: "is ready after" in first.said())
        print(f"first start: {time.monotonic() - started:.1f} s")
        assert "none found in this folder" in first.said()
        assert "database   postgresql://aftercommit:aftercommit@127.0.0.1:" in first.said()
        url = address(first)
        task = submit(url, "echo", {"hello": "world"})
        assert (task["status"], task["result"]) == ("succeeded", {"hello": "world"})
        assert first.stop() == 0
        assert first.said().endswith("stopped\n")
    handler = "from aftercommit import task\n\n@task('greet')\nasync def greet(name: str) -> str:\n    return {}\n"
    (folder / "tasks.py").write_text(handler.format("'Hello, ' + name"))
    started = time.monotonic()
    with Running(command, folder=folder, log=tmp_path / "second.log", settings={}) as second:
        second.until(lambda: "is ready after" in second.said())
        print(f"second start: {time.monotonic() - started:.1f} s")
        url = address(second)
        assert call(f"{url}/v1/tasks/{task['id']}")["status"] == "succeeded"
        assert submit(url, "greet", {"name": "Ada"})["result"] == "Hello, Ada"
        (folder / "tasks.py").write_text(handler.format("'Hello, name"))
        second.until(lambda: "waits for the next change" in second.said())
        assert "tasks.py, line 5" in second.said()
        (folder / "tasks.py").write_text(handler.format("'Good day, ' + name"))
        assert submit(url, "greet", {"name": "Ada"})["result"] == "Good day, Ada"
        assert second.stop() == 0
    assert {each.name for each in folder.iterdir()} <= {".aftercommit", "tasks.py", "__pycache__"}
    everything.run("aftercommit", "dev", "--clean", cwd=folder)
    assert not (folder / ".aftercommit").exists()


def address(dev: Running) -> str:
    found = re.search(r"^  API +(\S+)$", dev.said(), re.MULTILINE)
    assert found is not None
    return found[1]


def submit(url: str, type: str, payload: dict[str, str]) -> dict[str, object]:
    """The task once it has run."""
    task = call(f"{url}/v1/tasks", {"type": type, "payload": payload})
    finished: dict[str, object] = call(f"{url}/v1/tasks/{task['id']}?wait=30")
    return finished
