"""What the pages show is what happens: their commands and examples run against a real installation."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from tests.integration.callers import calling, django_database, dsn_of, know
from tests.integration.service import Api, Service

ROOT: Final = Path(__file__).parents[2]
API_OF_THE_PAGES: Final = "http://127.0.0.1:8000"
LEFT_OUT: Final = "…"
SECONDS: Final = 20.0
"""For what a page shows to come true: the tutorial's reader types slower than the test."""

WriteModule = Callable[[str, str], str]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteModule]:
    """Writes a module that workers of this process can import, gone after the test."""
    written: list[str] = []
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, code: str) -> str:
        (tmp_path / f"{name}.py").write_text(code)
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


def dialogue(page: str) -> Iterator[tuple[str, Any]]:
    """Each curl command of the page with the JSON that is shown below it."""
    for block in blocks(page, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            if command.startswith("curl"):
                yield command, json.loads(re.sub(rf",?\s*{LEFT_OUT}", f', "{LEFT_OUT}": null', output))


class Reader:
    """Types the commands of a page and compares what comes with what is shown.

    ``ids`` maps the ids that the page shows to those that came, in later commands too.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._ids: dict[str, str] = {}

    async def type(self, command: str, shown: Any) -> None:
        method, path, options = self._parse(command)
        async with asyncio.timeout(SECONDS):
            while flaw := self._compare(shown, (await self._api.call(method, path, **options))[1], "answer"):
                assert method == "GET", f"{command}\n{flaw}"
                await asyncio.sleep(0.1)  # a look-up of what is still under way, as a reader would repeat it

    def _parse(self, command: str) -> tuple[str, str, dict[str, Any]]:
        for told, came in self._ids.items():
            command = command.replace(told, came)
        arguments = iter(shlex.split(command)[1:])
        method, path, headers, data = None, "", {}, None
        for argument in arguments:
            match argument:
                case "-s":
                    pass
                case "-X":
                    method = next(arguments)
                case "-H":
                    name, _, value = next(arguments).partition(": ")
                    headers[name] = value
                case "-d":
                    data = next(arguments)
                case _:
                    path = argument.removeprefix("$API")
        return method or ("GET" if data is None else "POST"), path, {"headers": headers, "data": data}

    def _compare(self, shown: Any, came: Any, where: str) -> str:
        """What differs, or an empty text."""
        if isinstance(shown, dict) and isinstance(came, dict):
            missing = set(shown) - set(came) - {LEFT_OUT}
            more = set(came) - set(shown) if LEFT_OUT not in shown else set()
            flaws = [f"{where}: {name} is shown or came alone" for name in missing | more]
            pairs = [(name, shown[name], came[name]) for name in shown if name in came]
        elif isinstance(shown, list) and isinstance(came, list):
            flaws = [] if len(shown) == len(came) else [f"{where}: {len(shown)} are shown, {len(came)} came"]
            pairs = [(str(n), *pair) for n, pair in enumerate(zip(shown, came, strict=False))]
        elif is_id(shown) and is_id(came):
            return "" if self._ids.setdefault(shown, came) == came else f"{where}: another id came"
        else:
            return "" if shown == came else f"{where}: {shown!r} is shown, {came!r} came"
        return "; ".join([*flaws, *filter(None, (self._compare(s, c, f"{where}.{name}") for name, s, c in pairs))])


def is_id(value: Any) -> bool:
    try:
        return bool(UUID(value))
    except (ValueError, AttributeError, TypeError):
        return False


async def test_tutorial_goes_as_it_is_written(service: Service, write_module: WriteModule) -> None:
    (code,) = blocks("documents/tutorial/first-task.md", "python")
    reader = Reader(await service.all_roles(write_module("shop", code)))
    for command, shown in dialogue("documents/tutorial/first-task.md"):
        await reader.type(command, shown)


async def test_handler_and_submit_of_the_readme_work(
    service: Service, write_module: WriteModule, capsys: pytest.CaptureFixture[str]
) -> None:
    handler, submit = blocks("README.md", "python")
    api = await service.all_roles(write_module("mail", handler))
    patient = submit.replace(API_OF_THE_PAGES, api.url).replace("timeout=10", "timeout=60")  # a busy machine
    await asyncio.to_thread(exec, patient, {})
    assert capsys.readouterr().out.splitlines()[-1] == "{'sent_to': 'ada@example.com'}"  # the handler logs to it, too
    (row,) = await service.query("SELECT status FROM aftercommit.tasks")
    assert row.status == "succeeded"


async def test_submits_of_the_page_about_them_make_one_task_however_often_they_are_called(service: Service) -> None:
    api = await service.api()
    page = "documents/how-to/submit.md"
    retrying, with_httpx, in_a_handler, after_the_commit = (
        code.replace(API_OF_THE_PAGES, api.url) for code in blocks(page, "python")
    )
    names = await asyncio.to_thread(run_python, retrying)
    again = await asyncio.to_thread(names["submit"], {"type": "echo", "payload": {"order": 17}}, key="order-17-echo")
    assert again["id"] == names["task"]["id"]
    with pytest.raises(OSError, match="422"):
        await asyncio.to_thread(names["submit"], {"type": "no type"}, key="another")
    handling = {"submit": names["submit"], "context": SimpleNamespace(task_id="t"), "order": 17}
    for _ in range(2):
        await asyncio.to_thread(run_python, in_a_handler, **handling)

    async_names = run_python(with_httpx)
    ids = {(await async_names["submit"]({"type": "echo"}, key="k"))["id"] for _ in range(2)}
    await async_names["client"].aclose()
    assert len(ids) == 1

    (columns,) = blocks(page, "sql")
    async with calling(service) as connection:
        await connection.execute(
            f"CREATE TABLE orders (id bigint PRIMARY KEY); INSERT INTO orders VALUES (17); {columns}"
        )
    submit_due = run_python(after_the_commit, submit=names["submit"])["submit_due"]
    with psycopg.connect(dsn_of(service.settings)) as sync_connection:
        for _ in range(2):
            await asyncio.to_thread(submit_due, sync_connection)
    rows = await service.query(
        "SELECT type, confirmation_task = t.id FROM aftercommit.tasks AS t, orders ORDER BY t.id"
    )
    assert [tuple(row) for row in rows] == [
        ("echo", False),
        ("order.ship", False),
        ("echo", False),
        ("order.confirm", True),
    ]


async def test_handlers_of_the_page_about_them_run(service: Service, write_module: WriteModule) -> None:
    examples = blocks("documents/how-to/handlers.md", "python")
    api = await service.all_roles(*(write_module(f"handlers_{n}", code) for n, code in enumerate(examples)))
    calls = {"report.render": {"year": 2026}, "report.print": {"pages": 2}, "report.render_pages": {"pages": 1}}
    tasks = [await api.submit(type, payload=payload) for type, payload in calls.items()]
    results = [(await api.get(task["id"], wait=SECONDS))["result"] for task in tasks]
    assert results == ["the report of 2026", 2, 1]


async def test_exactly_once_example_books_once_although_the_attempt_is_repeated(
    service: Service, write_module: WriteModule
) -> None:
    (code,) = blocks("documents/how-to/exactly-once.md", "python")
    await service.query("CREATE SCHEMA shop")
    await service.query("CREATE TABLE shop.accounts (id bigint PRIMARY KEY, balance bigint NOT NULL)")
    await service.query("INSERT INTO shop.accounts VALUES (1, 100)")
    api = await service.all_roles(write_module("bank", code))
    task = await api.submit("payment.book", payload={"account": 1, "amount": 20})
    assert (await api.get(task["id"], wait=SECONDS))["result"] == {"balance": 120}
    assert (await service.query("SELECT balance FROM shop.accounts"))[0][0] == 120


CONFIGURE_DJANGO: Final = """
import json, os
from django.conf import settings
settings.configure(DATABASES={"default": json.loads(os.environ["DATABASE"])})
"""


async def test_each_way_of_the_page_about_your_own_transaction_submits(service: Service) -> None:
    page = "documents/how-to/your-transaction.md"
    on_psycopg, on_asyncpg, on_sqlalchemy, on_django, savepoint = blocks(page, "python")
    await know(service)
    async with calling(service) as connection:
        await connection.execute("CREATE TABLE public.orders (id bigint PRIMARY KEY)")
        for statements in blocks(page, "sql"):
            await connection.execute(statements)
        await run_python(on_asyncpg)["place_order"](connection, 1)
    dsn = dsn_of(service.settings)
    await asyncio.to_thread(run_python(on_psycopg)["place_order"], dsn, 2)
    engine = create_engine(dsn_of(service.settings, drivername="postgresql+psycopg"), poolclass=NullPool)
    with Session(engine) as session:
        run_python(on_sqlalchemy)["place_order"](session, 3)
    await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", f"{CONFIGURE_DJANGO}{on_django}\nplace_order(4)"],
        cwd=ROOT,
        env={**os.environ, "DATABASE": json.dumps(django_database(service.settings))},
        check=True,
        timeout=60,
    )
    with psycopg.connect(dsn) as sync_connection:
        submit_if_free = run_python(savepoint)["submit_if_free"]
        assert [submit_if_free(sync_connection, 17) for _ in range(2)] == [True, False]
    rows = await service.query("SELECT type, payload ->> 'order' FROM aftercommit.tasks ORDER BY id")
    confirmed = [("order.confirm", order) for order in "1234"]
    assert [tuple(row) for row in rows] == [
        ("order.confirm", "17"),
        ("order.confirm", "17"),
        ("order.ship", "17"),
        *confirmed,
        ("order.sync", None),
    ]
    assert (await service.query("SELECT count(*) FROM public.orders"))[0][0] == 5


def run_python(code: str, **names: Any) -> dict[str, Any]:
    exec(code, names)
    return names


async def test_schedules_of_the_page_about_them_are_made_and_run(service: Service, write_module: WriteModule) -> None:
    (code,) = blocks("documents/how-to/schedules.md", "python")
    api = await service.all_roles(write_module("reports", code))
    reader = Reader(api)
    for command, shown in dialogue("documents/how-to/schedules.md"):
        await reader.type(command, shown)
    await service.until("SELECT count(*) = 3 FROM aftercommit.schedules", seconds=SECONDS)
    _, made = await api.call("POST", "/v1/schedules/report.send/trigger")
    done = await api.get(made["id"], wait=SECONDS)
    assert done["result"] == f"sent to the boss for {done['schedule']['tick'][:10]}, 0 missed before"


async def test_examples_of_the_page_about_the_client_work(
    service: Service, write_module: WriteModule, capsys: pytest.CaptureFixture[str]
) -> None:
    handler, *examples = blocks("documents/how-to/call-from-python.md", "python")
    api = await service.all_roles(write_module("mail", handler))
    names: dict[str, Any] = {}
    for code in examples:
        await asyncio.to_thread(exec, code.replace(API_OF_THE_PAGES, api.url), names)
    names["client"].close()
    told = capsys.readouterr().out
    for line in (
        "{'sent_to': 'ada@example.com'}",
        "scheduled 20",
        "succeeded\n",
        "2500 {'succeeded'}",
        "[('#/queue', ",
        "the payload does not fit email.send: copies: ",
        "is held by task ",
    ):
        assert line in told, told


def test_tests_of_the_page_about_testing_pass(tmp_path: Path) -> None:
    shop, tests, *_ = blocks("documents/how-to/test-handlers.md", "python")
    (tmp_path / "shop.py").write_text(shop)
    (tmp_path / "test_shop.py").write_text(tests)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "4 passed" in ran.stdout, ran.stdout + ran.stderr
