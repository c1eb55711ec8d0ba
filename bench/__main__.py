"""``python -m bench``: runs scenarios and peers, prints a table with ratios, writes a JSON file."""

import argparse
import asyncio
import shlex
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench import machine, profile, table
from bench.ground import Ground, private_servers
from bench.results import Results, failed
from bench.role_process import CHECKOUT
from bench.run import run
from bench.scenarios import SCENARIOS
from bench.sizes import SIZES

PEER_PYTHON: Final = CHECKOUT / ".venv-bench" / "bin" / "python"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--scenario", action="append", choices=list(SCENARIOS), help="only this one; may be given several times"
    )
    parser.add_argument("--profile", action="store_true", help="only the processor time of each stage of the full path")
    parser.add_argument("--size", choices=list(SIZES), default="full")
    parser.add_argument("--quick", action="store_const", dest="size", const="quick", help="the same as --size quick")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--with", action="append", default=[], dest="sizes", metavar="NAME=VALUE", help="change a size")
    parser.add_argument(
        "--set", action="append", default=[], dest="settings", metavar="NAME=VALUE", help="a setting of every role"
    )
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--peer-python", type=Path, default=PEER_PYTHON, help="of the environment that has the peers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where all samples go")
    return parser.parse_args(arguments)


def main() -> int:
    wanted = parse()
    scenarios = [profile.SCENARIO] if wanted.profile else [SCENARIOS[name] for name in wanted.scenario or SCENARIOS]
    sizes = SIZES[wanted.size].changed(wanted.sizes)
    settings = dict(assignment.split("=", 1) for assignment in wanted.settings)
    with private_servers() as (servers, folder):
        ground = Ground(servers=servers, folder=folder, sizes=sizes, settings=settings, peer_python=None)
        results = Results(
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            command=shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
            commit=machine.commit(),
            size=wanted.size,
            sizes=asdict(sizes),
            settings=settings,
            machine=machine.machine(),
            versions=asyncio.run(machine.versions(servers)),
            postgres=dict(asyncio.run(machine.postgres_settings(servers))),
            peer_versions={},
        )
        try:
            asyncio.run(run(ground, scenarios, repeats=wanted.repeats, results=results))
        finally:
            if wanted.json:
                results.write(wanted.json)
    print(table.plain(("figure", "median", "samples", "target", "met"), table.rows(scenarios, results)))
    for line in failed(results):
        print(f"FAILED {line}")
    return 1 if failed(results) else 0


if __name__ == "__main__":
    sys.exit(main())
