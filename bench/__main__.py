"""``python -m bench``: runs scenarios and peers, prints tables with ratios, writes a JSON file."""

import argparse
import asyncio
import shlex
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bench import comparison, machine, planning, table
from bench.ground import Ground, private_servers
from bench.peers import environments
from bench.peers.catalogue import PEERS
from bench.peers.environments import Environment
from bench.results import Description, Results
from bench.run import run, tell
from bench.scenarios import SCENARIOS
from bench.sizes import SIZES


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = parser.add_argument
    add("--scenario", action="append", choices=list(SCENARIOS), help="only this one; may be given several times")
    add("--peers", action=argparse.BooleanOptionalAction, help="run them; by default only when no scenario is chosen")
    add("--peer", action="append", choices=[peer.name for peer in PEERS], help="only this one; may be given again")
    add("--peer-python", type=Path, action="append", help="of an environment that has peers; may be given again")
    add("--before", type=Path, metavar="CHECKOUT", help="of an earlier commit, to run beside ours where that tells")
    add("--profile", action="store_true", help="only the processor time of each stage")
    add("--size", choices=list(SIZES), default="full")
    add("--quick", action="store_const", dest="size", const="quick", help="the same as --size quick")
    add("--repeats", type=int, default=1)
    add("--with", action="append", default=[], dest="sizes", metavar="NAME=VALUE", help="change one of the sizes")
    add("--set", action="append", default=[], dest="settings", metavar="NAME=VALUE", help="a setting of every role")
    add("--json", type=Path, metavar="FILE", help="where every sample goes")
    return parser.parse_args(arguments)


async def measure(wanted: argparse.Namespace, ground: Ground, found: list[Environment]) -> Results:
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
        descriptions={
            each.name: Description(each.how, each.figures, dict(each.settings)) for each in planning.chosen(wanted)
        },
        peer_versions=environments.versions(found),
        before=machine.commit(wanted.before) if wanted.before else "",
    )
    try:
        await ground.prepare()
        if wanted.before:
            await ground.of(wanted.before).prepare()
        await run(planning.plan(wanted, ground, found), repeats=wanted.repeats, results=results)
    finally:
        if wanted.json:
            results.write(wanted.json)
    return results


def main() -> int:
    wanted = parse()
    wanted.before = wanted.before and wanted.before.resolve()
    pythons = (wanted.peer_python or environments.DEFAULT) if planning.with_peers(wanted) else []
    found = environments.ask(pythons)
    if pythons and not found:
        tell(f"{pythons[0]} is missing: `make bench` builds it; --no-peers does without")
        return 2
    sizes = SIZES[wanted.size].changed(wanted.sizes)
    settings = dict(assignment.split("=", 1) for assignment in wanted.settings)
    with private_servers() as (servers, folder):
        ground = Ground(servers=servers, folder=folder, sizes=sizes, settings=settings)
        results = asyncio.run(measure(wanted, ground, found))
    if figures := table.rows(results):
        print(table.plain(table.HEADER, figures))
    for each in comparison.tables(results):
        print(f"\n{each.title}\n\n{table.plain(each.header, each.rows)}")
    failures = results.failures()
    print("".join(f"\nFAILED {failure}" for failure in failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
