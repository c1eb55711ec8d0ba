"""Callers submit in transactions of their own while they, the relays, the APIs and Postgres are killed."""

import asyncio
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import asyncpg

from tests.faults import caller, faults
from tests.faults.caller import BEGUN_LINE, DRIVERS
from tests.faults.faults import Trial
from tests.faults.processes import CHECKOUT
from tests.faults.scenarios.registry import KILLS, rounds, scenario

LIFE_SECONDS: Final = (0.5, 4.0)
"""How long a caller goes on, from its first transaction, before it is killed."""

START_SECONDS: Final = 60.0
"""For a caller to come to its first transaction: a busy machine takes seconds to import what it needs."""

KNOWN_SECONDS: Final = 60.0
CALLERS_SECONDS: Final = 1_800.0
"""For as many transactions as the load has tasks, when that is in before."""

_BY_DRIVER: Final = "SELECT driver, count(*) FROM fault_callers GROUP BY driver ORDER BY driver"


class Callers:
    """A process for each driver, killed again and again and started anew. As an async context manager: none is left."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._killing: list[asyncio.Task[None]] = []
        self.killed = 0

    async def __aenter__(self) -> "Callers":
        self._killing = [asyncio.create_task(self._live(driver)) for driver in DRIVERS]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._killing:
            task.cancel()
        await asyncio.gather(*self._killing, return_exceptions=True)
        for process in self._processes.values():
            process.kill()
            await asyncio.to_thread(process.wait)

    async def _live(self, driver: str) -> None:
        while True:
            process = self._start(driver)
            try:
                await self._until_begun(driver, process)
            except TimeoutError:
                self._trial.flaws.append(f"the caller with {driver} did not begin within {START_SECONDS:g} s")
                return
            await asyncio.sleep(self._trial.rng.uniform(*LIFE_SECONDS))
            if process.poll() is not None:
                self._trial.flaws.append(f"the caller with {driver} ended on its own with {process.returncode}")
            process.kill()
            await asyncio.to_thread(process.wait)
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
            )
        return process

    def _log_file(self, driver: str) -> Path:
        folder = next(iter(self._trial.installation.fleet)).log_file.parent
        return folder / f"caller-{driver.replace(' ', '-')}.log"


async def _prepare(trial: Trial) -> None:
    connection = await trial.installation.connect()
    try:
        await connection.execute(caller.TABLES)
        async with asyncio.timeout(KNOWN_SECONDS):
            while not await connection.fetchval("SELECT count(*) FROM aftercommit.queues"):
                await asyncio.sleep(0.1)
    finally:
        await connection.close()


async def _until_enough(trial: Trial) -> None:
    """As many transactions have begun as the load has tasks, twice: half of them roll back."""
    async with asyncio.timeout(CALLERS_SECONDS):
        while True:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError):
                connection = await trial.installation.connect()
                try:
                    if await connection.fetchval("SELECT last_value FROM fault_begun") >= 2 * trial.load.planned:
                        return
                finally:
                    await connection.close()
            await asyncio.sleep(0.5)


async def _each_row_has_its_task(trial: Trial) -> None:
    """The callers' rows are what was acknowledged: the account finds a row without a task lost, and a task without a
    row, of a transaction that rolled back, unexpected."""
    connection = await trial.installation.connect()
    try:
        rows = await connection.fetch("SELECT task_id FROM fault_callers")
        by_driver = {row["driver"]: row["count"] for row in await connection.fetch(_BY_DRIVER)}
        rolled_back = await connection.fetchval("SELECT last_value FROM fault_rolled_back")
        begun = await connection.fetchval("SELECT last_value FROM fault_begun")
    finally:
        await connection.close()
    trial.load.submitted.update(caller.committed_ids(rows))
    shown = ", ".join(f"{driver} {count}" for driver, count in by_driver.items())
    trial.found["callers' transactions"] = f"{begun} begun; {shown} committed; {rolled_back} rolled back"
    if set(by_driver) != set(DRIVERS):
        trial.flaws.append(f"only these callers committed: {', '.join(by_driver)}")
    if rolled_back < len(rows) / 4:
        trial.flaws.append(f"only {rolled_back} transactions rolled back")


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
    async with Callers(trial) as callers:
        await rounds(trial, KILLS, kill)
        await trial.load.done.wait()
        await _until_enough(trial)
    trial.struck.append(f"{callers.killed} callers killed")
