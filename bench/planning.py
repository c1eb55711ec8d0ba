"""What a command line asks for, as jobs: what is compared stands side by side."""

import argparse
import functools
from collections.abc import Iterator, Sequence

from bench.ground import Ground
from bench.peers import measure as peers
from bench.peers.catalogue import PEERS
from bench.peers.environments import Environment
from bench.peers.peer import Peer
from bench.run import Job
from bench.scenario import Scenario
from bench.scenarios import PROFILES, SCENARIOS
from bench.systems import COMPARED, ON_CLASSIC, WITH_BEFORE, before_series, classic_series, peer_series


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


def plan(wanted: argparse.Namespace, ground: Ground, environments: Sequence[Environment]) -> list[Job]:
    """For each scenario that is compared ours, the earlier commit's and the peers'; then our other scenarios."""
    scenarios = {scenario.name: scenario for scenario in chosen(wanted)}
    jobs: list[Job] = []
    for name, kind in COMPARED.items():
        if name in scenarios:
            jobs += _ours(scenarios[name], ground, wanted)
        jobs += [_of_peer(peer, kind, ground, environments) for peer in _beside(wanted, name, kind)]
    rest = [scenario for name, scenario in scenarios.items() if name not in COMPARED]
    return jobs + [job for scenario in rest for job in _ours(scenario, ground, wanted)]


def _ours(scenario: Scenario, ground: Ground, wanted: argparse.Namespace) -> Iterator[Job]:
    tuned = ground.tuned(scenario.settings)
    yield Job(scenario.name, functools.partial(scenario.measure, tuned), once=scenario.once)
    if classic := ON_CLASSIC.get(scenario.name):
        yield Job(classic_series(scenario.name), functools.partial(scenario.measure, tuned.tuned(classic)))
    if wanted.before and scenario.name in WITH_BEFORE:
        yield Job(before_series(scenario.name), functools.partial(scenario.measure, tuned.of(wanted.before)))


def _beside(wanted: argparse.Namespace, scenario: str, kind: str) -> list[Peer]:
    """The peers that are to run this: those named, or all; of scenarios that were named only what stands beside
    them."""
    if not with_peers(wanted) or scenario not in (wanted.scenario or COMPARED):
        return []
    return [peer for peer in PEERS if kind in peer.kinds and peer.name in (wanted.peer or [peer.name])]


def _of_peer(peer: Peer, kind: str, ground: Ground, environments: Sequence[Environment]) -> Job:
    measure = functools.partial(peers.measure, ground, environments, peer, kind)
    return Job(peer_series(peer.name, kind), measure)
