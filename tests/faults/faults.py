"""The faults, each a function that strikes, waits and heals."""

import asyncio
import random
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import quote
from uuid import UUID

from aftercommit.db.models import metadata
from aftercommit.devstack.rabbitmq_management import Management
from tests.faults.installation import QUEUES, RETRY_QUEUES, Installation
from tests.faults.load import Load
from tests.faults.processes import RoleProcess

ALARMS: Final = {
    "memory": ("set_vm_memory_high_watermark", "0.0001", "0.4"),
    "disk": ("set_disk_free_limit", "1000000GB", "50MB"),
}
"""The limit that RabbitMQ is given, the value that raises the alarm, and the normal one."""

POLICY: Final = "fault-suite-full"
NOT_FOUND: Final = 404
REPLACE_SECONDS: Final = 30.0


@dataclass(slots=True)
class Trial:
    """What a scenario works on. For the account, ``struck`` tells what it did, ``found`` what it measured, and
    ``flaws`` what should not have been. ``cancels`` are the answers to cancels, by task."""

    installation: Installation
    load: Load
    rng: random.Random
    struck: list[str] = field(default_factory=list)
    found: dict[str, object] = field(default_factory=dict)
    flaws: list[str] = field(default_factory=list)
    cancels: dict[UUID, int] = field(default_factory=dict)

    def role(self, *kinds: str) -> RoleProcess:
        """Any process of these kinds, of all when none is named."""
        return self.rng.choice([role for role in self.installation.fleet if not kinds or role.kind in kinds])

    async def heal(self) -> None:
        """Whatever a scenario left broken when it was cut short."""
        self.installation.proxy.heal()
        for role in self.installation.fleet:
            role.crash = None
            role.send_group(signal.SIGCONT)
        servers = self.installation.servers
        await asyncio.to_thread(servers.postgres.start)
        await asyncio.to_thread(servers.rabbitmq.start)


async def kill(trial: Trial, role: RoleProcess, *, down_seconds: float = 0.0) -> None:
    trial.struck.append(f"SIGKILL {role.name}")
    role.kill(down_seconds=down_seconds)


async def pause(trial: Trial, role: RoleProcess, seconds: float) -> None:
    trial.struck.append(f"SIGSTOP {role.name} {seconds:.1f} s")
    role.send_group(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    role.send_group(signal.SIGCONT)


async def kill_broker(trial: Trial, *, down_seconds: float, wipe: bool = False) -> None:
    trial.struck.append(f"RabbitMQ kill -9{', wiped' if wipe else ''}")
    broker = trial.installation.servers.rabbitmq
    await asyncio.to_thread(broker.kill)
    if wipe:
        await asyncio.to_thread(broker.wipe)
    await asyncio.sleep(down_seconds)
    await asyncio.to_thread(broker.start)


async def restart_broker(trial: Trial) -> None:
    trial.struck.append("RabbitMQ restarted")
    await asyncio.to_thread(trial.installation.servers.rabbitmq.restart)


async def raise_alarm(trial: Trial, resource: str, seconds: float) -> None:
    trial.struck.append(f"{resource} alarm {seconds:.1f} s")
    limit, alarming, normal = ALARMS[resource]
    control = trial.installation.servers.rabbitmq.rabbitmqctl
    await asyncio.to_thread(control, limit, alarming)
    try:
        await asyncio.sleep(seconds)
    finally:
        await asyncio.to_thread(control, limit, normal)


async def delete_queue(trial: Trial, name: str) -> None:
    trial.struck.append(f"{name} deleted")
    await _manage(trial, "DELETE", f"queues/%2F/{quote(name)}")


async def replace_queue(trial: Trial, name: str, *, arguments: dict[str, Any]) -> None:
    """Put a queue with other arguments in the place of ``name``, which maintenance may declare again meanwhile."""
    trial.struck.append(f"{name} replaced")
    management: Management = trial.installation.servers.rabbitmq.management
    path = f"/api/queues/%2F/{quote(name)}"
    async with asyncio.timeout(REPLACE_SECONDS):
        while True:
            await _manage(trial, "DELETE", path.removeprefix("/api/"))
            with suppress(HTTPError):  # it is declared again already
                await asyncio.to_thread(management.call, "PUT", path, {"durable": True, "arguments": arguments})
                return


async def purge(trial: Trial) -> None:
    trial.struck.append("all queues purged")
    for name in (*QUEUES, *RETRY_QUEUES):
        await _manage(trial, "DELETE", f"queues/%2F/{quote(name)}/contents")


async def fill_queues(trial: Trial, *, seconds: float, messages: int) -> None:
    """Work queues take no more than ``messages`` each, for a while."""
    trial.struck.append(f"work queues full at {messages} for {seconds:.1f} s")
    policy = {"pattern": r"^tasks\.(high|medium|low)$", "definition": {"max-length": messages}, "apply-to": "queues"}
    await _manage(trial, "PUT", f"policies/%2F/{POLICY}", policy)
    try:
        await asyncio.sleep(seconds)
    finally:
        await _manage(trial, "DELETE", f"policies/%2F/{POLICY}")


async def _manage(trial: Trial, method: str, path: str, body: Any = None) -> None:
    management: Management = trial.installation.servers.rabbitmq.management
    try:
        await asyncio.to_thread(management.call, method, f"/api/{path}", body)
    except HTTPError as error:
        if error.code != NOT_FOUND:  # another fault may have taken the queue away
            raise


async def kill_database(trial: Trial, *, down_seconds: float) -> None:
    trial.struck.append(f"PostgreSQL kill -9, {down_seconds:.1f} s down")
    postgres = trial.installation.servers.postgres
    await asyncio.to_thread(postgres.kill)
    await asyncio.sleep(down_seconds)
    await asyncio.to_thread(postgres.start)


async def restart_database(trial: Trial) -> None:
    trial.struck.append("PostgreSQL restarted")
    await asyncio.to_thread(trial.installation.servers.postgres.restart)


_FULL: Final = """
    CREATE OR REPLACE FUNCTION no_space_left() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE disk_full USING MESSAGE = 'could not extend file: no space left (stand-in)'; END $$
"""


async def fill_database(trial: Trial, *, seconds: float) -> None:
    """A stand-in for a full disk: whatever would write into one of our tables gets the error of one that is."""
    trial.struck.append(f"PostgreSQL's disk full {seconds:.1f} s")
    connection = await trial.installation.connect()
    try:
        await connection.execute(_FULL)
        for table in metadata.tables:  # one by one: all at once could meet a role halfway, and deadlock
            await connection.execute(
                f"CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON {table} EXECUTE FUNCTION no_space_left()"
            )
        await asyncio.sleep(seconds)
    finally:
        for table in metadata.tables:
            await connection.execute(f"DROP TRIGGER IF EXISTS full_disk ON {table}")
        await connection.close()


async def hold_horizon(trial: Trial) -> None:
    """A transaction that stays open until the load is acknowledged: nothing dead can be vacuumed meanwhile."""
    trial.struck.append("long transaction")
    connection = await trial.installation.connect()
    try:
        async with connection.transaction(isolation="repeatable_read"):
            await connection.fetchval("SELECT count(*) FROM aftercommit.tasks")
            await trial.load.done.wait()
    finally:
        await connection.close()


# Chosen and locked apart: a row that changed its status in between would be locked without being told of.
_LOCK_ROWS: Final = """
    SELECT id, status FROM aftercommit.tasks WHERE id = ANY (ARRAY (
        SELECT id FROM aftercommit.tasks WHERE status = $1 AND id <> ALL($2) ORDER BY id LIMIT $3
    ))
    ORDER BY id FOR UPDATE SKIP LOCKED
"""


@asynccontextmanager
async def locked_rows(trial: Trial, *, of_each: int) -> AsyncIterator[list[UUID]]:
    """Lock, as a transaction of somebody else's, up to so many tasks of each status that is not final; their ids."""
    connection = await trial.installation.connect()
    locked: list[UUID] = []
    try:
        async with connection.transaction():
            for status in ("running", "queued", "retrying"):
                found = 0
                while found < of_each and not trial.load.done.is_set():
                    rows = await connection.fetch(_LOCK_ROWS, status, locked, of_each - found)
                    locked += [row["id"] for row in rows]
                    found += sum(row["status"] == status for row in rows)
                    await asyncio.sleep(0.01)  # tasks of a status come and go by themselves
                trial.struck.append(f"{found} {status} rows locked")
            yield locked
    finally:
        await connection.close()


async def lock_table(trial: Trial, *, seconds: float) -> None:
    """Nobody can write tasks for a while: every submit waits."""
    trial.struck.append(f"tasks locked {seconds:.1f} s")
    connection = await trial.installation.connect()
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE aftercommit.tasks IN SHARE MODE")
            await asyncio.sleep(seconds)
    finally:
        await connection.close()


async def cut(trial: Trial, *, server: str, roles: list[str] | None, seconds: float) -> None:
    trial.struck.append(f"cut {server} from {', '.join(roles or ['all'])} {seconds:.1f} s")
    proxy = trial.installation.proxy
    links = proxy.links(server=server, roles=roles)
    proxy.cut(links)
    await asyncio.sleep(seconds)
    proxy.heal(links)


async def silence(
    trial: Trial, *, server: str, roles: list[str] | None, seconds: float, to_server: bool = True, to_role: bool = True
) -> None:
    ways = {(True, True): "both ways", (True, False): "to the server", (False, True): "to the role"}
    trial.struck.append(f"silence {server} {ways[to_server, to_role]}, {', '.join(roles or ['all'])} {seconds:.1f} s")
    proxy = trial.installation.proxy
    links = proxy.links(server=server, roles=roles)
    proxy.silence(links, to_server=to_server, to_role=to_role)
    await asyncio.sleep(seconds)
    proxy.heal(links)


async def blip(trial: Trial, role: RoleProcess, *, seconds: float) -> None:
    """Both servers do what the role asks, but their answers are lost, and then the connections."""
    trial.struck.append(f"answers lost {role.name} {seconds:.1f} s")
    proxy = trial.installation.proxy
    links = proxy.links(roles=[role.name])
    proxy.silence(links, to_server=False)
    await asyncio.sleep(seconds)
    proxy.reset(links)
    proxy.heal(links)


def clock(offset: str) -> dict[str, str]:
    """The environment of a process whose clock is off. The ``faketime`` command would stand between us and it."""
    shown = subprocess.run(["faketime", "-f", offset, "env"], check=True, capture_output=True, text=True).stdout
    found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    return {name: found[name] for name in ("LD_PRELOAD", "FAKETIME")} | {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
