"""Ours beside the peers', from the same run. Pure."""

from typing import Final

from bench.figures import Target, at_least, show
from bench.peers.catalogue import PEERS
from bench.peers.order import NOOP, SLEEP, SUSTAINED
from bench.results import Results

HEADER: Final = (
    "one worker process",
    "full path, tasks/s",
    "ours ÷ it",
    "target",
    "drain, tasks/s",
    "ours ÷ it",
    "10 ms, tasks/s",
    "ours ÷ it",
)


TARGETS: Final[dict[str, Target]] = {
    "pgqueuer": at_least(1.2),
    "Celery": at_least(2),
    "Celery, results in Postgres": at_least(15),
}
"""Of our full path divided by the peer's: its tasks are enqueued while its worker works."""


OURS: Final = ("full_path", "drain", "scale")
"""The scenarios whose figures stand beside the peers'."""

OURS_KEEPS: Final = (
    "The task, its payload, its state and each attempt in Postgres from the submit's commit on; the result; the "
    "outcome exactly once; the message confirmed in a quorum queue,"
    " and enqueued again when RabbitMQ loses it. It runs at "
    "least once."
)


def throughputs(results: Results) -> list[tuple[str, float, bool]]:
    """No-op tasks/s of the full path by name, ours first, and whether it is ours."""
    series = [("Aftercommit", "full_path", True)]
    series += [(peer.name, f"peer.{peer.name}.{SUSTAINED}", False) for peer in PEERS]
    found = [(title, _median(results, name, "rate"), ours) for title, name, ours in series]
    return [(title, value, ours) for title, value, ours in found if value is not None]


def rows(results: Results) -> list[tuple[str, ...]]:
    """A row of ours, then one for each peer that was tried; ``failed`` where it has no figure."""
    full = _median(results, "full_path", "rate")
    drain = _median(results, "drain", "rate")
    slow = _median(results, "scale", "one")
    ours = ("Aftercommit", _shown(full), "", "", _shown(drain), "", _shown(slow), "")
    return [ours, *(_row(results, peer.name, full, drain, slow) for peer in PEERS if tried(results, peer.name))]


def _row(results: Results, name: str, full: float | None, drain: float | None, slow: float | None) -> tuple[str, ...]:
    theirs = [_median(results, f"peer.{name}.{kind}", "rate") for kind in (SUSTAINED, NOOP, SLEEP)]
    target = str(TARGETS.get(name, ""))
    full_path, drained, slept = (
        (_shown(their) or "failed", _ratio(our, their)) for our, their in zip((full, drain, slow), theirs, strict=True)
    )
    return (name, *full_path, target, *drained, *slept)


def tried(results: Results, name: str) -> bool:
    """Whether this peer was to run."""
    return f"peer.{name}.{NOOP}" in results.series


def _median(results: Results, series: str, figure: str) -> float | None:
    found = results.series.get(series)
    return found.median(figure) if found else None


def _shown(value: float | None) -> str:
    return "" if value is None else show(value)


def _ratio(ours: float | None, theirs: float | None) -> str:
    return "" if ours is None or theirs is None else f"{show(ours / theirs)} ×"
