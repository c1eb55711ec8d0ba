"""One scenario from start to account: the load runs, faults strike, all heals, everything drains, the account is
drawn up."""

import asyncio
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import asyncpg

from aftercommit.broker.topology import DEAD_LETTERS
from aftercommit.devstack.servers import Servers
from aftercommit.worker.postponed import LONGEST_WAIT_SECONDS
from tests.faults.account import Account, check, observe
from tests.faults.faults import Trial
from tests.faults.installation import Installation, Shape
from tests.faults.load import Load
from tests.faults.scenarios import Scenario

SWEEP_SECONDS: Final = 0.25
SETTLE_SECONDS: Final = LONGEST_WAIT_SECONDS + 0.5
"""Nothing may be left to do for so long. A worker holds the message of a row that was locked until it looks again; the
task may be done by then, through a second message, and a worker that stops gives the first one back."""

MOST_SENT_TWICE: Final = 0.005

_PROGRESS: Final = """
    SELECT count(*) FILTER (WHERE finished_at IS NULL), (SELECT count(*)
        FROM aftercommit.outbox_rows), sum(attempt), sum(dispatch)
    FROM aftercommit.tasks
"""


async def run(
    scenario: Scenario,
    *,
    servers: Servers,
    folder: Path,
    tasks: int,
    seed: int,
    rate: float = 500.0,
    patience_seconds: float = 60.0,
    shape: Shape | None = None,
    settings: Mapping[str, str] | None = None,
) -> Account:
    """Run ``scenario`` once. ``patience_seconds`` is how long the draining may stand still before it is given up.
    ``settings`` are every role's, unless the scenario has its own."""
    rng = random.Random(f"{scenario.name} {seed}")
    load = Load(scenario.plan(tasks, rng), rate=rate, at_once=scenario.submits_at_once)
    account = Account()
    async with Installation(
        servers,
        folder,
        shape=shape or Shape(),
        settings={**(settings or {}), **scenario.settings},
        prepare=lambda fleet: scenario.prepare(fleet, rng),
    ) as installation:
        trial = Trial(installation=installation, load=load, rng=rng)
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run(installation.urls))
            group.create_task(_strike(scenario, trial))
        loaded = time.monotonic()
        await _drain(installation, patience_seconds)
        drained = time.monotonic()
        await scenario.verify(trial)
        await installation.fleet.stop()
        await _close(scenario, trial, account)
    account.figures["load, drain"] = f"{loaded - started:.1f} s, {drained - loaded:.1f} s"
    return account


async def _strike(scenario: Scenario, trial: Trial) -> None:
    try:
        await scenario.inject(trial)
    finally:
        await trial.heal()


async def _drain(installation: Installation, patience_seconds: float) -> None:
    """Wait until nothing is left to do, or until nothing has moved for ``patience_seconds``."""
    last: object = None
    moved = time.monotonic()
    idle_since: float | None = None
    while time.monotonic() - moved < patience_seconds:
        try:
            connection = await installation.connect()
            try:
                progress = tuple(await connection.fetchrow(_PROGRESS) or ())
            finally:
                await connection.close()
        except (OSError, TimeoutError, asyncpg.PostgresError):
            progress = ()
        if progress[:2] == (0, 0) and not await _waiting(installation):
            idle_since = idle_since or time.monotonic()
            if time.monotonic() - idle_since >= SETTLE_SECONDS:
                return
        else:
            idle_since = None
        if progress != last:
            last, moved = progress, time.monotonic()
        await asyncio.sleep(SWEEP_SECONDS)


async def _waiting(installation: Installation) -> dict[str, int]:
    return {name: depth for name, depth in (await installation.depths()).items() if name != DEAD_LETTERS}


async def _close(scenario: Scenario, trial: Trial, account: Account) -> None:
    installation, load = trial.installation, trial.load
    account.figures["acknowledged"] = f"{len(load.submitted)} of {load.planned}, after {load.retries} repeated requests"
    account.expect("requests without an answer", len(load.unanswered))
    connection = await installation.connect()
    try:
        seen = await observe(connection)
    finally:
        await connection.close()
    check(load.submitted, seen, account, cancels=trial.cancels)
    depths = await installation.depths()
    dead_letters = depths.pop(DEAD_LETTERS, 0)
    account.expect("messages at the end", depths, {})
    failed = sum(task["status"] == "failed" for task in seen.tasks.values())
    account.figures["dead letters"] = f"{dead_letters} for {failed} failed"
    if dead_letters < failed and not scenario.broker_forgets:
        account.failures.append(f"dead letters: {dead_letters}, should be at least {failed}")
    if scenario.sends_once:
        due = sum(task["dispatch"] for task in seen.tasks.values()) + failed
        twice = installation.fleet.confirmed() - due
        account.figures["sent twice"] = f"{twice} of {due}"
        if twice > due * MOST_SENT_TWICE:
            account.failures.append(f"sent twice: {twice} of {due}")
    account.figures |= trial.found
    account.failures += trial.flaws
    account.figures["faults"] = ", ".join(trial.struck) or "-"
    if scenario.boundary is not None:
        strikes = installation.fleet.strikes
        account.figures["reached the boundary"] = (
            f"{strikes} times, {installation.fleet.starts} processes started again"
        )
        if not strikes:
            account.failures.append("no process reached the boundary")
    account.expect("roles that died on their own or did not stop", installation.fleet.flaws, [])
