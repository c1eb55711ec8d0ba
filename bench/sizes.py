"""How much each scenario does."""

from dataclasses import dataclass, fields, replace
from typing import Final, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Counts are tasks, unless a name says seconds; a rate is tasks/s. ``waiting`` low tasks are a backlog for the
    scenario priority."""

    warm_up: int
    drain: int
    full_path: int
    relay: int
    share: int
    submit_single: int
    submit_batch: int
    latency_seconds: int
    waiting: int
    high_rate: int
    growth: int
    growth_finished: int
    growth_waiting: int
    horizon: int
    horizon_seconds: int
    rounds: int
    idle_seconds: int
    busy_seconds: int
    scale: int
    peer_noop: int
    peer_sleep: int
    peer_seconds: int

    def changed(self, assignments: list[str]) -> Self:
        """With ``name=value`` applied. Raises ValueError for a name that is none, or a value that is no number."""
        known = {field.name for field in fields(self)}
        changes = {}
        for assignment in assignments:
            name, _, value = assignment.partition("=")
            if name not in known:
                raise ValueError(f"{name!r} is no size: {', '.join(sorted(known))}")
            changes[name] = int(value.replace("_", ""))
        return replace(self, **changes)


SIZES: Final = {
    "full": Sizes(
        warm_up=2_000,
        drain=80_000,
        full_path=120_000,
        relay=60_000,
        share=20_000,
        submit_single=10_000,
        submit_batch=200_000,
        latency_seconds=12,
        waiting=40_000,
        high_rate=100,
        growth=80_000,
        growth_finished=10_000_000,
        growth_waiting=1_000_000,
        horizon=80_000,
        horizon_seconds=600,
        rounds=5,
        idle_seconds=15,
        busy_seconds=10,
        scale=12_000,
        peer_noop=20_000,
        peer_sleep=3_000,
        peer_seconds=240,
    ),
    "quick": Sizes(
        warm_up=1_000,
        drain=20_000,
        full_path=40_000,
        relay=20_000,
        share=8_000,
        submit_single=6_000,
        submit_batch=50_000,
        latency_seconds=5,
        waiting=20_000,
        high_rate=100,
        growth=20_000,
        growth_finished=200_000,
        growth_waiting=20_000,
        horizon=20_000,
        horizon_seconds=20,
        rounds=2,
        idle_seconds=10,
        busy_seconds=5,
        scale=5_000,
        peer_noop=10_000,
        peer_sleep=1_000,
        peer_seconds=120,
    ),
    "smoke": Sizes(
        warm_up=20,
        drain=300,
        full_path=500,
        relay=500,
        share=200,
        submit_single=200,
        submit_batch=3_000,
        latency_seconds=1,
        waiting=1_000,
        high_rate=100,
        growth=500,
        growth_finished=5_000,
        growth_waiting=500,
        horizon=500,
        horizon_seconds=2,
        rounds=1,
        idle_seconds=2,
        busy_seconds=1,
        scale=250,
        peer_noop=300,
        peer_sleep=100,
        peer_seconds=120,
    ),
}
"""``full`` is what is reported, ``quick`` takes minutes, ``smoke`` only shows that everything runs."""
