"""Callers submit in transactions of their own while they, the relays, the APIs and Postgres are killed."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from tests.faults import caller, faults
from tests.faults.caller import BEGUN_LINE, DRIVERS
from tests.faults.faults import Trial
from tests.faults.processes import CHECKOUT
from tests.faults.scenarios.registry import KILLS, scenario

LIFE_SECONDS: Final = (0.5, 20.0)
"""How long a caller goes on, from its first transaction, before it is killed."""

START_SECONDS: Final = 60.0
"""For a caller to come to its first transaction: a busy machine takes seconds to import what it needs."""

KNOWN_SECONDS: Final = 60.0
STILL_SECONDS: Final = 120.0
"""How long no driver may get on."""

TASKS_FOR_KILLS: Final = 10_000
"""In this many tasks of each driver, KILLS processes are killed, and as many in fewer."""

_COUNTS: Final = """
    SELECT sequencename AS driver, coalesce(last_value, 0) AS rolled_back,
        (SELECT count(*) FROM fault_callers WHERE driver = sequencename) AS committed
    FROM pg_sequences WHERE schemaname = 'rolled_back' ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Count:
    committed: int = 0
    rolled_back: int = 0


class Callers:
    """A process for each driver, killed again and again and started anew until it has committed as many transactions as
    the load has tasks, and rolled back as many. As an async context manager: none is left."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._killing: list[asyncio.Task[None]] = []
        self.counts = dict.fromkeys(DRIVERS, Count())
        self.killed = 0

    async def __aenter__(self) -> "Callers":
        self._killing = [asyncio.create_task(self._live(driver)) for driver in DRIVERS]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._killing:
            task.cancel()
        await asyncio.gather(*self._killing, return_exceptions=True)
        for process in self._processes.values():
            await _kill(process)

    async def until(self, share: float) -> None:
        """Wait until each driver has done this share of its transactions. Raises TimeoutError when none gets on."""
        while min(map(self._share, DRIVERS)) < share:
            before = self.counts
            async with asyncio.timeout(STILL_SECONDS):
                while self.counts == before:
                    await asyncio.sleep(0.5)
                    with suppress(OSError, TimeoutError, asyncpg.PostgresError):
                        self.counts = await _count(self._trial)

    def _share(self, driver: str) -> float:
        count = self.counts[driver]
        return min(count.committed, count.rolled_back) / self._trial.load.planned

    async def _live(self, driver: str) -> None:
        while self._share(driver) < 1:
            process = self._start(driver)
            try:
                await self._until_begun(driver, process)
            except TimeoutError:
                self._trial.flaws.append(f"the caller with {driver} did not begin within {START_SECONDS:g} s")
                return
            await asyncio.sleep(self._trial.rng.uniform(*LIFE_SECONDS))
            if process.poll() is not None:
                self._trial.flaws.append(f"the caller with {driver} ended on its own with {process.returncode}")
            await _kill(process)
            self.killed += 1

    async def _until_begun(self, driver: str, process: subprocess.Popen[bytes]) -> None:
        """Until it says so, or has ended."""
        begun = BEGUN_LINE.format(process.pid).encode()
        async with asyncio.timeout(START_SECONDS):
            while process.poll() is None and begun not in self._log_file(driver).read_bytes():
                await asyncio.sleep(0.05)

    def _start(self, driver: str) -> subprocess.Popen[bytes]:
        seed = str(self._trial.rng.random())
        with self._log_file(driver).open("ab") as log:
            process = self._processes[driver] = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.caller", driver, self._trial.installation.dsn, seed],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=CHECKOUT,
                start_new_session=True,
            )
        return process

    def _log_file(self, driver: str) -> Path:
        folder = next(iter(self._trial.installation.fleet)).log_file.parent
        return folder / f"caller-{driver}.log"


async def _kill(process: subprocess.Popen[bytes]) -> None:
    """With the psql that it may have started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await asyncio.to_thread(process.wait)


async def _prepare(trial: Trial) -> None:
    connection = await trial.installation.connect()
    try:
        await connection.execute(caller.TABLES)
        async with asyncio.timeout(KNOWN_SECONDS):
            while not await connection.fetchval("SELECT count(*) FROM aftercommit.queues"):
                await asyncio.sleep(0.1)
    finally:
        await connection.close()


async def _count(trial: Trial) -> dict[str, Count]:
    connection = await trial.installation.connect()
    try:
        rows = await connection.fetch(_COUNTS)
    finally:
        await connection.close()
    return {row["driver"]: Count(row["committed"], row["rolled_back"]) for row in rows}


async def _finish_prepared(trial: Trial) -> None:
    """As a transaction manager does after its crash."""
    connection = await trial.installation.connect()
    try:
        for row in await connection.fetch(caller.FINISH_PREPARED):
            await connection.execute(row["statement"])
    finally:
        await connection.close()


async def _each_row_has_its_task(trial: Trial) -> None:
    """The callers' rows are what was acknowledged: the account finds a row without a task lost, and a task without a
    row, of a transaction that rolled back, unexpected."""
    connection = await trial.installation.connect()
    try:
        rows = await connection.fetch("SELECT task_id FROM fault_callers")
    finally:
        await connection.close()
    trial.load.submitted.update(caller.committed_ids(rows))
    counts = await _count(trial)
    shown = (f"{driver} {count.committed} and {count.rolled_back}" for driver, count in counts.items())
    trial.found["callers' transactions"] = f"{', '.join(shown)} committed and rolled back"


@scenario("callers-transactions", verify=_each_row_has_its_task)
async def callers_transactions(trial: Trial) -> None:
    async def kill(turn: int) -> None:
        match turn % 3:
            case 0:
                await faults.kill(trial, trial.role("relay"), down_seconds=trial.rng.choice((0, 1, 3)))
            case 1:
                await faults.kill(trial, trial.role("api"))
            case _:
                await faults.kill_database(trial, down_seconds=trial.rng.uniform(0.2, 2))

    await _prepare(trial)
    kills = KILLS * max(1, trial.load.planned // TASKS_FOR_KILLS)
    async with Callers(trial) as callers:
        for turn in range(kills):
            await callers.until((turn + trial.rng.uniform(0.2, 0.8)) / kills)
            await kill(turn)
        await callers.until(1)
        await trial.load.done.wait()
    await _finish_prepared(trial)
    trial.struck.append(f"{callers.killed} callers killed")
