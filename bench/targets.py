"""What is wanted of ours, as ratios to what other systems reached in the same run. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bench.figures import Bound, Target, at_least, at_most, show
from bench.peers.catalogue import PEERS
from bench.peers.order import SLEEP
from bench.results import Results
from bench.systems import BEFORE, System

HEADER: Final = ("target", "ours", "beside", "ours ÷ it", "wanted", "met")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Of our ``figure`` in ``scenario`` to the best of those that ``beside`` names, whose figure may be called
    ``theirs``."""

    title: str
    scenario: str
    figure: str
    beside: tuple[str, ...]
    target: Target
    unit: str
    theirs: str = ""


def _waits(rate: int, figure: str, peer: str, most: float) -> Ratio:
    title = f"single tasks at {rate}/s, {figure}"
    return Ratio(
        title=title, scenario="latency", figure=f"{rate}.{figure}", beside=(peer,), target=at_most(most), unit="ms"
    )


def _cost(system: str, most: float) -> Ratio:
    return Ratio(
        title="single tasks at 500/s, processor time",
        scenario="latency",
        figure="500.cpu",
        beside=(system,),
        target=at_most(most),
        unit="ms/task",
    )


def _rate(title: str, scenario: str, *beside: str, least: float, figure: str = "rate") -> Ratio:
    return Ratio(
        title=title,
        scenario=scenario,
        figure=figure,
        beside=beside,
        target=at_least(least),
        unit="tasks/s",
        theirs="rate",
    )


TARGETS: Final = (
    _waits(100, "p50", "pgqueuer", 1),
    _waits(100, "p99", "pgqueuer", 1),
    _waits(500, "p50", "pgqueuer", 1.5),
    _waits(500, "p99", "pgqueuer", 1.2),
    _waits(500, "p99", "Celery", 0.5),
    _waits(500, "p99", "Dramatiq", 0.5),
    _waits(500, "p50", "Oban", 0.8),
    _waits(500, "p99", "Oban", 0.8),
    _cost(BEFORE, 0.75),
    *(_cost(name, 1) for name in ("pgqueuer", "Oban", "Celery", "Dramatiq")),
    _rate("full path of no-op tasks", "full_path", "pgqueuer", least=1.6),
    _rate("full path of no-op tasks", "full_path", BEFORE, least=1.25),
    _rate("drain of no-op tasks, one worker", "drain", "pgqueuer", least=2),
    _rate(
        "10 ms tasks, one worker",
        "scale",
        *(peer.name for peer in PEERS if SLEEP in peer.kinds),
        least=1.1,
        figure="one",
    ),
    Ratio(
        title="high priority behind a backlog, p99",
        scenario="priority",
        figure="p99",
        beside=("Celery", "Dramatiq"),
        target=at_most(0.5),
        unit="ms",
    ),
)


def rows(results: Results) -> list[tuple[str, ...]]:
    """Of the targets of which both sides were measured."""
    found = [_row(results, ratio) for ratio in TARGETS]
    return [row for row in found if row is not None]


def _row(results: Results, ratio: Ratio) -> tuple[str, ...] | None:
    ours = results.median(ratio.scenario, ratio.figure)
    measured = [
        (value, name)
        for name in ratio.beside
        if (value := results.median(System(name, name).series(ratio.scenario), ratio.theirs or ratio.figure))
        is not None
    ]
    if ours is None or not measured:
        return None
    best: Callable[..., tuple[float, str]] = max if ratio.target.bound is Bound.AT_LEAST else min
    theirs, name = best(measured)
    found = ours / theirs
    return (
        ratio.title,
        f"{show(ours)} {ratio.unit}",
        f"{name}: {show(theirs)}",
        f"{show(found)} ×",
        f"{ratio.target} ×",
        "yes" if ratio.target.met(found) else "no",
    )
