"""The outbox of a caller whose database is another one, and the forwarder that empties it."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from uuid import uuid4

import asyncpg
import pytest
import structlog

from aftercommit.db import caller_outbox
from aftercommit.db.database import DatabaseConnection
from aftercommit.devstack.servers import Servers
from aftercommit.forward import commands
from aftercommit.forward.delivery import Delivery
from aftercommit.forward.forwarder import Forwarder
from aftercommit.runtime.poll import poll
from tests.integration.callers import refusal
from tests.integration.conftest import ROOT, connect_admin
from tests.integration.service import Service
from tests.long_runs import often

SUBMIT: Final = "SELECT aftercommit_outbox.submit_task"
EMPTY: Final = "SELECT NOT EXISTS (SELECT FROM aftercommit_outbox.rows WHERE refused_at IS NULL)"

ROWS: Final = often(1_500, long=int(os.environ.get("FORWARD_ROWS", "200000")))
KEYS: Final = 20
LIFE_SECONDS: Final = often(1, long=5)
"""About how long the next kill is waited for: a forwarder takes a second to start, and more on a busy machine."""


class Caller:
    """A database of a caller's own, with an outbox; ``dsn`` is its address."""

    def __init__(self, dsn: str, connection: asyncpg.Connection) -> None:
        self.dsn = dsn
        self.connection = connection

    async def until_empty(self, *, seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            while not await self.connection.fetchval(EMPTY):
                await asyncio.sleep(0.02)


@pytest.fixture
async def caller(servers: Servers) -> AsyncIterator[Caller]:
    name = f"caller_{uuid4().hex}"
    admin = await connect_admin(servers)
    await admin.execute(f"CREATE DATABASE {name}")
    environment = servers.postgres.environment()
    dsn = (
        f"postgresql://{environment['POSTGRES_USER']}:{environment['POSTGRES_PASSWORD']}"
        f"@{environment['POSTGRES_HOST']}:{environment['POSTGRES_PORT']}/{name}"
    )
    await caller_outbox.install(dsn)
    connection = await asyncpg.connect(dsn)
    yield Caller(dsn, connection)
    await connection.close()
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


class Forwarding:
    """A forwarder in this process, while the block runs."""

    def __init__(self, caller: Caller, url: str, *, batch_size: int = 100) -> None:
        self._connection = DatabaseConnection(caller.dsn, application="forward")
        self._deliveries = [Delivery(url, api_key=None)]
        self.role = Forwarder(self._connection, self._deliveries[0], batch_size=batch_size, poll_seconds=0.05)
        self._stopping = asyncio.Event()

    async def __aenter__(self) -> "Forwarding":
        self._running = asyncio.create_task(poll("forward", self.role.tick, stopping=self._stopping))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()
        await self._running
        await self._connection.close()
        for delivery in self._deliveries:
            await delivery.close()

    def moved_to(self, url: str) -> None:
        """The service answers there from now on."""
        self._deliveries.append(Delivery(url, api_key=None))
        self.role._delivery = self._deliveries[-1]


async def submitted(service: Service) -> list[Any]:
    return await service.query("SELECT type, payload, queue, priority, due_at, tags FROM aftercommit.tasks ORDER BY id")


async def test_what_commits_is_forwarded_once_and_what_rolls_back_never_is(service: Service, caller: Caller) -> None:
    api = await service.api()
    connection = caller.connection
    async with connection.transaction():
        await connection.execute(
            f"{SUBMIT}('echo', '{{\"n\": 1}}', priority => 'high', delay_seconds => 3600, tags => '{{a,b}}')"
        )
        undone = connection.transaction()
        await undone.start()
        await connection.execute(f"{SUBMIT}('echo', '{{\"n\": 2}}')")
        await undone.rollback()
    ids = await connection.fetch(
        """SELECT aftercommit_outbox.submit_tasks('[{"type": "echo"}, {"type": "test.fail"}]')"""
    )
    assert len(ids) == 2
    async with Forwarding(caller, api.url) as forwarding:
        await caller.until_empty()
    first, *others = await submitted(service)
    assert (first.type, first.payload, first.priority, first.tags) == ("echo", {"n": 1}, "high", ["a", "b"])
    assert first.due_at is not None
    assert [each.type for each in others] == ["echo", "test.fail"]
    assert forwarding.role.totals == {"forwarded": 3}
    assert await connection.fetch("SELECT id FROM aftercommit_outbox.batch") == []


BAD: Final = [
    ("('no type!')", "type"),
    ("('echo', '[]')", "payload"),
    ("('echo', key => '')", "key"),
]


async def test_what_can_be_told_at_once_is_refused_in_the_transaction(caller: Caller) -> None:
    for arguments, field in BAD:
        assert await refusal(caller.connection, f"{SUBMIT}{arguments}") == ("AC001", field)
    batch = "SELECT aftercommit_outbox.submit_tasks($1::text::jsonb)"
    assert await refusal(caller.connection, batch, '[{"type": "echo"}, {"type": 5}]') == ("AC001", "tasks/1/type")
    assert await refusal(caller.connection, batch, "[]") == ("AC001", "tasks")


async def test_rows_that_the_service_refuses_are_set_aside_and_hold_up_nobody(
    service: Service, caller: Caller, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARD_DSN", caller.dsn)
    api = await service.api(api_max_payload_bytes=1_000, api_max_body_bytes=100_000)
    submit = f"{SUBMIT}($1, $2::text::jsonb, queue => $3, key => 'k')"
    for n in range(10):
        await caller.connection.execute(submit, "echo", f'{{"n": {n}}}', "nowhere" if n in (3, 7) else None)
    huge = f'{{"a": "{"x" * 200_000}"}}'  # nobody can tell which row it is, until it goes alone
    await caller.connection.execute(submit, "echo", huge, None)
    await caller.connection.execute(submit, "echo", '{"n": 10}', None)
    async with Forwarding(caller, api.url) as forwarding:
        await caller.until_empty()
        assert [each.payload["n"] for each in await submitted(service)] == [0, 1, 2, 4, 5, 6, 8, 9, 10]
        assert forwarding.role.totals == {"forwarded": 9, "refused": 3}
        assert await asyncio.to_thread(commands.run, "status", [], []) == 0
        shown = capsys.readouterr().out
        assert "waiting     0\n" in shown
        assert "refused     3\n" in shown
        assert "forwarder   runs" in shown
        assert "queue: there is no queue 'nowhere': there is tasks" in shown
        (row,) = await caller.connection.fetch("SELECT min(id) AS id FROM aftercommit_outbox.rows")
        await caller.connection.execute("UPDATE aftercommit_outbox.rows SET request = request - 'queue'")
        assert await asyncio.to_thread(commands.run, "retry", [row["id"]], []) == 0
        await caller.until_empty()
    assert await asyncio.to_thread(commands.run, "discard", [], []) == 0
    assert capsys.readouterr().out.endswith("1 rows wait again.\n2 rows are deleted.\n")
    assert [each.payload["n"] for each in await submitted(service)][-1] == 3


async def test_answer_that_was_lost_makes_no_second_task(service: Service, caller: Caller) -> None:
    api = await service.api()
    for n in range(50):
        await caller.connection.execute(f"{SUBMIT}('echo', jsonb_build_object('n', {n}::int))")
    # What a forwarder leaves that dies after its batch was taken.
    async with DatabaseConnection(caller.dsn, application="test") as connection:
        taken = await caller_outbox.take(connection.fetch, uuid4(), after=0, limit=20)
    assert taken is not None
    delivery = Delivery(api.url, api_key=None)
    assert await delivery.send(taken[0]) is None
    await delivery.close()
    async with Forwarding(caller, api.url):
        await caller.until_empty()
    assert [each.payload["n"] for each in await submitted(service)] == list(range(50))


async def test_batch_whose_key_the_service_may_have_forgotten_is_not_sent_again(
    service: Service, caller: Caller
) -> None:
    api = await service.api()
    for _ in range(3):
        await caller.connection.execute(f"{SUBMIT}('echo')")
    async with DatabaseConnection(caller.dsn, application="test") as connection:
        await caller_outbox.take(connection.fetch, uuid4(), after=0, limit=2)
    await caller.connection.execute("UPDATE aftercommit_outbox.batch SET opened_at = now() - interval '24 hours'")
    async with Forwarding(caller, api.url):
        await caller.until_empty()
    reasons = await caller.connection.fetch("SELECT refusal FROM aftercommit_outbox.rows")
    assert len(reasons) == 2
    assert all("it may be a task already" in row["refusal"] for row in reasons)
    assert len(await submitted(service)) == 1


async def test_service_that_is_away_is_waited_for_and_told_of(service: Service, caller: Caller) -> None:
    api = await service.api()
    await caller.connection.execute(f"{SUBMIT}('echo')")
    with structlog.testing.capture_logs() as logs:
        async with Forwarding(caller, "http://127.0.0.1:1") as forwarding:
            while not [each for each in logs if each["event"] == "service_away"]:
                await asyncio.sleep(0.02)
            assert len(await caller.connection.fetch("SELECT id FROM aftercommit_outbox.rows")) == 1
            forwarding.moved_to(api.url)
            await caller.until_empty()
    assert [each["event"] for each in logs if each["event"].startswith("service_")] == ["service_away", "service_back"]
    assert len(await submitted(service)) == 1


async def test_installing_again_keeps_rows_and_the_smallest_rights_are_enough(
    caller: Caller, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARD_DSN", caller.dsn)
    await caller.connection.execute(f"{SUBMIT}('echo')")
    role = f'shop "{uuid4().hex}"'
    quoted = role.replace('"', '""')
    await caller.connection.execute(f'CREATE ROLE "{quoted}"')
    try:
        assert await asyncio.to_thread(commands.run, "install", [], [role]) == 0
        await caller.connection.execute(f'SET ROLE "{quoted}"')
        await caller.connection.execute(f"{SUBMIT}('echo', key => 'k')")
        for forbidden in ("SELECT id FROM aftercommit_outbox.rows", "SELECT aftercommit_outbox.enqueue('{}', '', '')"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await caller.connection.execute(forbidden)
        await caller.connection.execute("RESET ROLE")
        assert await caller.connection.fetchval("SELECT count(*) FROM aftercommit_outbox.rows") == 2
    finally:
        await caller.connection.execute(f'RESET ROLE; DROP OWNED BY "{quoted}"; DROP ROLE "{quoted}"')
    assert await asyncio.to_thread(commands.run, "install", [], ["nobody"]) == 2
    assert await asyncio.to_thread(commands.run, "status", [1], []) == 2
    assert await asyncio.to_thread(commands.run, "retry", [], ["nobody"]) == 2
    await caller.connection.execute("DROP SCHEMA aftercommit_outbox CASCADE")
    assert await asyncio.to_thread(commands.run, "status", [], []) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "--grant: there is no role nobody; nothing was changed"
    assert told[-1] == "There is no outbox in this database: make it with `aftercommit outbox install`"


class ForwarderProcess:
    """A forwarder in a process of its own, that is killed."""

    def __init__(self, caller: Caller, url: str) -> None:
        self._environment = {
            **os.environ,
            "FORWARD_DSN": caller.dsn,
            "AFTERCOMMIT_URL": url,
            "FORWARD_BATCH_SIZE": "100",
            "PYTHONPATH": str(ROOT),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "aftercommit", "forward"], env=self._environment, stderr=subprocess.DEVNULL
        )

    def stop(self, how: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(30)


async def enqueue(caller: Caller, share: Sequence[int]) -> None:
    """Rows of many keys in transactions of their own, some of which roll back."""
    connection = await asyncpg.connect(caller.dsn)
    for n in share:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(f"{SUBMIT}('echo', jsonb_build_object('n', {n}::int), key => 'key {n % KEYS}')")
        await (transaction.commit() if n >= 0 else transaction.rollback())
    await connection.close()


@pytest.mark.timeout(120 + ROWS // 20)
async def test_nothing_is_lost_doubled_or_out_of_order_while_everything_is_killed(
    service: Service, caller: Caller
) -> None:
    """Two forwarders by turns, of which each is killed at any moment. Each key's rows are enqueued by one caller, in
    order."""
    api = await service.api()
    forwarders = [ForwarderProcess(caller, api.url) for _ in range(2)]
    shares: list[list[int]] = [[] for _ in range(4)]
    for n in range(ROWS):
        shares[n % KEYS % len(shares)] += [n] if n % 10 else [n, -1 - n]
    chance = random.Random(7)
    kills = 0
    async with asyncio.TaskGroup() as group:
        for forwarder in forwarders:
            forwarder.start()
        loads = [group.create_task(enqueue(caller, share)) for share in shares]
        while not all(load.done() for load in loads) or kills < 4:
            await asyncio.sleep(chance.uniform(0.2, 2.0) * LIFE_SECONDS)
            victim = chance.choice(forwarders)
            victim.stop(signal.SIGKILL)
            victim.start()
            kills += 1
    await caller.until_empty(seconds=60 + ROWS / 500)
    # One that was started a moment ago does not listen to signals yet.
    assert {forwarder.stop(signal.SIGTERM) for forwarder in forwarders} <= {0, -signal.SIGTERM}
    numbers = [each.payload["n"] for each in await submitted(service)]
    assert sorted(numbers) == list(range(ROWS))
    for key in range(KEYS):
        assert [n for n in numbers if n % KEYS == key] == list(range(key, ROWS, KEYS))
    print(f"{ROWS} rows, {kills} kills")


def test_bad_dsn_and_url_stop_it_at_once() -> None:
    def told(**changes: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "aftercommit", "forward"],
            env={**os.environ, "PYTHONPATH": str(ROOT), **changes},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 2, done.stderr
        return done.stderr.splitlines()[-1]

    assert told().startswith("FORWARD_DSN: is missing: give it, or --dsn")
    assert told(FORWARD_DSN="mysql://a:secret@b").startswith("FORWARD_DSN: String should match pattern")
    dsn = "postgresql://127.0.0.1:1/x"
    assert "no URL: give one" in told(FORWARD_DSN=dsn)
    assert told(FORWARD_DSN=dsn, AFTERCOMMIT_URL="ftp://x").startswith("AFTERCOMMIT_URL: ")
