"""``python -m bench``: runs scenarios and peers, prints tables with ratios, writes a JSON file."""

import argparse
import asyncio
import functools
import shlex
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench import comparison, machine, table
from bench.child_process import CHECKOUT
from bench.ground import Ground, private_servers
from bench.peers import measure as peers
from bench.peers.catalogue import PEERS
from bench.results import Description, Results
from bench.run import Job, run, tell
from bench.scenario import Scenario
from bench.scenarios import PROFILES, SCENARIOS
from bench.sizes import SIZES

PEER_PYTHON: Final = CHECKOUT / ".venv-bench" / "bin" / "python"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = parser.add_argument
    add("--scenario", action="append", choices=list(SCENARIOS), help="only this one; may be given several times")
    add("--peers", action=argparse.BooleanOptionalAction, help="run them; by default only when no scenario is chosen")
    add("--peer", action="append", choices=[peer.name for peer in PEERS], help="only this one; may be given again")
    add("--peer-python", type=Path, default=PEER_PYTHON, help="of the environment that has the peers")
    add("--profile", action="store_true", help="only the processor time of each stage")
    add("--size", choices=list(SIZES), default="full")
    add("--quick", action="store_const", dest="size", const="quick", help="the same as --size quick")
    add("--repeats", type=int, default=1)
    add("--with", action="append", default=[], dest="sizes", metavar="NAME=VALUE", help="change one of the sizes")
    add("--set", action="append", default=[], dest="settings", metavar="NAME=VALUE", help="a setting of every role")
    add("--json", type=Path, metavar="FILE", help="where every sample goes")
    return parser.parse_args(arguments)


def chosen(wanted: argparse.Namespace) -> list[Scenario]:
    if wanted.profile:
        return list(PROFILES)
    if wanted.scenario or wanted.peer:
        return [SCENARIOS[name] for name in wanted.scenario or []]
    return list(SCENARIOS.values())


def with_peers(wanted: argparse.Namespace) -> bool:
    if wanted.peers is None:
        return bool(wanted.peer) or not (wanted.scenario or wanted.profile)
    return bool(wanted.peers)


def plan(wanted: argparse.Namespace, ground: Ground) -> list[Job]:
    """What is compared stands side by side."""
    ours = [
        Job(scenario.name, functools.partial(scenario.measure, ground.tuned(scenario.settings)), once=scenario.once)
        for scenario in chosen(wanted)
    ]
    theirs = [
        Job(peers.series_name(peer, kind), functools.partial(peers.measure, ground, wanted.peer_python, peer, kind))
        for peer in PEERS
        for kind in peers.KINDS
        if with_peers(wanted) and peer.name in (wanted.peer or [peer.name])
    ]
    compared = [job for job in ours if job.series in comparison.OURS]
    return [*compared, *theirs, *(job for job in ours if job not in compared)]


async def measure(wanted: argparse.Namespace, ground: Ground) -> Results:
    """Run everything; what was found so far is written even when it ends early."""
    servers = ground.servers
    results = Results(
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        command=shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        commit=machine.commit(),
        size=wanted.size,
        sizes=asdict(ground.sizes),
        settings=dict(ground.settings),
        machine=machine.machine(),
        versions=await machine.versions(servers),
        postgres=await machine.postgres_settings(servers),
        repeats=wanted.repeats,
        descriptions={each.name: Description(each.how, each.figures, dict(each.settings)) for each in chosen(wanted)},
        peer_versions=peers.versions(wanted.peer_python) if with_peers(wanted) else {},
    )
    try:
        await ground.prepare()
        await run(plan(wanted, ground), repeats=wanted.repeats, results=results)
    finally:
        if wanted.json:
            results.write(wanted.json)
    return results


def main() -> int:
    wanted = parse()
    if with_peers(wanted) and not wanted.peer_python.exists():
        tell(f"{wanted.peer_python} is missing: `make bench` builds it; --no-peers does without")
        return 2
    sizes = SIZES[wanted.size].changed(wanted.sizes)
    settings = dict(assignment.split("=", 1) for assignment in wanted.settings)
    with private_servers() as (servers, folder):
        ground = Ground(servers=servers, folder=folder, sizes=sizes, settings=settings)
        results = asyncio.run(measure(wanted, ground))
    print(table.plain(table.HEADER, table.rows(results)))
    if with_peers(wanted):
        print("\n" + table.plain(comparison.HEADER, comparison.rows(results)))
    failures = results.failures()
    print("".join(f"\nFAILED {failure}" for failure in failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
