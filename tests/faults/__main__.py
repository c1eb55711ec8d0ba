"""python -m tests.faults: run scenarios, print their accounts, exit 1 when one does not add up."""

import argparse
import asyncio
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

from aftercommit.core.settings import Settings
from aftercommit.devstack.servers import Servers
from tests.faults.account import Account
from tests.faults.run import run
from tests.faults.scenarios import SCENARIOS, Scenario
from tests.private_servers import private_servers

COLUMNS = (
    ("lost: acknowledged, not final", "lost"),
    ("unexpected: never acknowledged", "unexpected"),
    ("recorded twice, or an attempt not at all", "recorded twice"),
    ("one attempt run twice", "attempt run twice"),
    ("transactional effects not exactly once", "not exactly once"),
    ("executions", "executions"),
    ("run again after", "run again after"),
    ("load, drain", "load, drain"),
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--scenario", action="append", help="one of those of --list, again for more; none: all")
    parser.add_argument("--seed", type=int, action="append", help="again for more; none: 1")
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=500.0, help="tasks submitted per second")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds that draining may stand still")
    parser.add_argument(
        "--setting",
        type=setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="give every role this setting, again for more; those of a scenario itself come first",
    )
    parser.add_argument("--report", type=Path, help="write the table of all runs here, in Markdown")
    parser.add_argument("--logs", type=Path, help="keep the roles' logs here")
    parser.add_argument("--list", action="store_true", help="name the scenarios and end")
    return parser.parse_args()


def setting(text: str) -> tuple[str, str]:
    """Name and value of ``NAME=VALUE``. Raises ArgumentTypeError when there is no such setting."""
    name, equals, value = text.partition("=")
    if not equals or name.lower() not in Settings.model_fields:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE with the name of a setting")
    return name, value


def main() -> int:
    options = arguments()
    if options.list:
        print("\n".join(SCENARIOS))
        return 0
    if unknown := set(options.scenario or ()) - SCENARIOS.keys():
        print(f"no such scenario: {', '.join(sorted(unknown))}; --list names them", file=sys.stderr)
        return 2
    # As Ctrl-C does, so that servers and roles end with us.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rows: list[str] = []
    sound = True
    with private_servers() as (servers, folder):
        for name in options.scenario or SCENARIOS:
            for seed in options.seed or (1,):
                row, adds_up = _run_one(SCENARIOS[name], seed, options, servers=servers, folder=folder)
                rows.append(row)
                sound &= adds_up
    given = [f"Every role with {', '.join('='.join(pair) for pair in options.setting)}.", ""] if options.setting else []
    table = "\n".join([*given, *_heading(), *rows, ""])
    print(f"\n{table}")
    if options.report:
        options.report.write_text(table)
    return 0 if sound else 1


def _run_one(
    scenario: Scenario, seed: int, options: argparse.Namespace, *, servers: Servers, folder: Path
) -> tuple[str, bool]:
    """The row of the table, and whether the account adds up."""
    if scenario.missing:
        print(f"{scenario.name}: skipped, {scenario.missing}")
        return f"| {scenario.name} | {seed} | skipped: {scenario.missing} |{' |' * len(COLUMNS)}", True
    logs = (options.logs or folder / "logs") / f"{scenario.name}-{seed}"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    started = time.monotonic()
    try:
        account = asyncio.run(_account(scenario, seed, options, servers=servers, logs=logs))
    except Exception:  # the suite's own fault, or a server that did not start: the other scenarios still count
        traceback.print_exc()
        return f"| {scenario.name} | {seed} | broke off |{' |' * len(COLUMNS)}", False
    verdict = "DOES NOT ADD UP" if account.failures else "adds up"
    print(f"{scenario.name}, seed {seed}: {verdict} ({time.monotonic() - started:.0f} s)")
    print("\n".join(account.lines()), flush=True)
    return _row(scenario.name, seed, account), not account.failures


async def _account(
    scenario: Scenario, seed: int, options: argparse.Namespace, *, servers: Servers, logs: Path
) -> Account:
    return await run(
        scenario,
        servers=servers,
        folder=logs,
        tasks=options.tasks,
        seed=seed,
        rate=options.rate,
        patience_seconds=options.patience,
        settings=dict(options.setting),
    )


def _heading() -> list[str]:
    titles = ["scenario", "seed", "account", *(title for _, title in COLUMNS)]
    return [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]


def _row(name: str, seed: int, account: Account) -> str:
    verdict = "does not add up" if account.failures else "adds up"
    return f"| {' | '.join([name, str(seed), verdict, *(str(account.figures[key]) for key, _ in COLUMNS)])} |"


if __name__ == "__main__":
    sys.exit(main())
