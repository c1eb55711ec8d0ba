"""The applications of ``examples/``, started as their pages say: an order and its task are committed together, or not
at all."""

import asyncio
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from aftercommit.devstack.binaries import find_postgres
from aftercommit.devstack.ports import HOST, accepts, free_port
from tests.integration.callers import calling, know
from tests.integration.conftest import ROOT
from tests.integration.service import Api, Service
from tests.integration.wheel import Running

EXAMPLES: Final = ROOT / "examples"
HANDLERS: Final = "examples.handlers.shop"
PORT_OF_THE_PAGES: Final = "8080"
SECONDS: Final = 30.0
IN_STOCK: Final = 5

ORDER: Final = {"product": "book", "quantity": 1, "email": "ada@example.com"}
TOO_LARGE: Final = ORDER | {"quantity": 100}


def commands(page: Path, block: int = 0) -> list[str]:
    """The command lines of a block of the page."""
    found = re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return str(found[block]).replace("\\\n", "").splitlines()


def environment(service: Service) -> dict[str, str]:
    """What the reader of the pages has: the programs, and the variables that say where the database is."""
    settings = service.settings
    postgres = find_postgres()
    programs = [str(Path(sys.executable).parent), os.environ["PATH"], *([str(postgres.folder)] if postgres else [])]
    return {
        "PATH": os.pathsep.join(programs),
        "PYTHONPATH": str(ROOT),
        "PGHOST": settings.postgres_host,
        "PGPORT": str(settings.postgres_port),
        "PGUSER": settings.postgres_user,
        "PGPASSWORD": settings.postgres_password,
        "PGDATABASE": settings.postgres_db,
    }


def run(command: str, folder: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs a command of a page to its end."""
    return subprocess.run(
        shlex.split(command),
        cwd=folder,
        env={**os.environ, **variables},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
async def api(service: Service) -> Api:
    """The shop's tables, and every role."""
    await know(service)
    async with calling(service) as owner:
        await owner.execute((EXAMPLES / "tables.sql").read_text())
    return await service.all_roles(HANDLERS)


async def check_one_order(service: Service, *, in_stock: int = IN_STOCK - 1) -> None:
    """One order was committed, and its task has succeeded; nothing is left of the other one."""
    await service.until_idle(seconds=SECONDS)
    tasks = await service.query("SELECT type, status, payload ->> 'order' AS number FROM aftercommit.tasks")
    (order,) = await service.query("SELECT id, email FROM orders")
    assert [tuple(task) for task in tasks] == [("order.confirm", "succeeded", str(order.id))]
    assert (await service.query("SELECT stock FROM products"))[0].stock == in_stock


async def order_over_http(command: str, folder: Path, variables: Mapping[str, str], log: Path) -> list[tuple[int, Any]]:
    """The answers of the application to an order that it can fill, and to one that it cannot."""
    port = free_port()
    command = command.replace(PORT_OF_THE_PAGES, str(port))
    settings = {**variables, "PORT": str(port)}
    answers = []
    with Running(shlex.split(command), folder=folder, log=log, settings=settings) as application:
        await asyncio.to_thread(application.until, lambda: accepts(port))
        async with aiohttp.ClientSession() as session:
            for order in (ORDER, TOO_LARGE):
                async with session.post(f"http://{HOST}:{port}/orders", json=order) as response:
                    assert response.status < 500, f"{await response.text()}\n{application.said()}"
                    answers.append((response.status, await response.json()))
        # Not as Ctrl-C does, which Python ignores in what a shell started in the background.
        await asyncio.to_thread(application.stop, signal.SIGTERM)
    return answers


async def check_application(service: Service, api: Api, command: str, folder: Path, log: Path) -> None:
    (created, answer), (refused, _) = await order_over_http(command, folder, environment(service), log)
    assert (created, refused) == (201, 409)
    assert (await api.get(answer["task"], wait=SECONDS))["result"]["sent_to"] == ORDER["email"]
    await check_one_order(service)


@pytest.mark.parametrize("name", ["fastapi_sqlalchemy", "flask_psycopg", "django_shop"])
async def test_application_in_python(name: str, service: Service, api: Api, tmp_path: Path) -> None:
    _install, start = commands(EXAMPLES / name / "README.md")
    await check_application(service, api, start, EXAMPLES / name, tmp_path / "log")


@pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="Node.js or npm is not installed here")
async def test_application_in_node(service: Service, api: Api, tmp_path: Path) -> None:
    folder = tmp_path / "node_pg"
    shutil.copytree(EXAMPLES / "node_pg", folder, ignore=shutil.ignore_patterns("node_modules"))
    install, start = commands(folder / "README.md")
    installed = await asyncio.to_thread(run, f"{install} --prefer-offline --no-audit --no-fund", folder, {})
    assert installed.returncode == 0, installed.stderr
    await check_application(service, api, start, folder, tmp_path / "log")


async def test_script_of_psql(service: Service, api: Api) -> None:
    (command,) = commands(EXAMPLES / "psql/README.md", 0)
    for quantity, succeeds in ((ORDER["quantity"], True), (TOO_LARGE["quantity"], False)):
        told = command.replace("quantity=1", f"quantity={quantity}")
        done = await asyncio.to_thread(run, told, EXAMPLES / "psql", environment(service))
        assert (done.returncode == 0) == succeeds, done.stderr
    await check_one_order(service)


async def test_trigger(service: Service, api: Api) -> None:
    make, insert = commands(EXAMPLES / "psql/README.md", 1)
    for command in (make, insert, insert.replace("INSERT", "BEGIN; INSERT").replace(')"', '); ROLLBACK"')):
        done = await asyncio.to_thread(run, command, EXAMPLES / "psql", environment(service))
        assert done.returncode == 0, done.stderr
    await check_one_order(service, in_stock=IN_STOCK)


def test_page_shows_the_order_that_is_tried() -> None:
    (command,) = commands(EXAMPLES / "README.md", 1)
    assert shlex.split(command)[-2:] == ["-d", str(ORDER).replace("'", '"')]
