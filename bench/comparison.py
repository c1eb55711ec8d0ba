"""Ours beside the peers', from the same run. Pure."""

from typing import Final

from bench.figures import Target, at_least, show
from bench.peers.catalogue import PEERS
from bench.peers.order import NOOP, SLEEP
from bench.results import Results

HEADER: Final = (
    "one worker process",
    "no-op, tasks/s",
    "our full path ÷ it",
    "target",
    "our drain ÷ it",
    "10 ms, tasks/s",
    "ours ÷ it",
)


TARGETS: Final[dict[str, Target]] = {
    "pgqueuer": at_least(1.2),
    "Celery": at_least(2),
    "Celery, results in Postgres": at_least(15),
}
"""Of our full path divided by the peer's drain of no-op tasks."""


OURS_KEEPS: Final = (
    "The task, its payload, its state and each attempt in Postgres from the submit's commit on; the result; the "
    "outcome exactly once; the message confirmed in a quorum queue, and rung again when RabbitMQ loses it. It runs at "
    "least once."
)


def throughputs(results: Results) -> list[tuple[str, float, bool]]:
    """No-op tasks/s by name, ours first, and whether it is ours."""
    own = [("Aftercommit, full path", "full_path"), ("Aftercommit, drain", "drain")]
    series = [(title, name, True) for title, name in own]
    series += [(peer.name, f"peer.{peer.name}.{NOOP}", False) for peer in PEERS]
    found = [(title, _median(results, name, "rate"), ours) for title, name, ours in series]
    return [(title, value, ours) for title, value, ours in found if value is not None]


def rows(results: Results) -> list[tuple[str, ...]]:
    """Rows of ours, then one for each peer that was tried; ``failed`` where it has no figure."""
    full = _median(results, "full_path", "rate")
    drain = _median(results, "drain", "rate")
    slow = _median(results, "scale", "one")
    ours = [
        ("Aftercommit, full path", _shown(full), "", "", "", "", ""),
        ("Aftercommit, drain", _shown(drain), _ratio(full, drain), "", "", _shown(slow), ""),
    ]
    return [*ours, *(_row(results, peer.name, full, drain, slow) for peer in PEERS if tried(results, peer.name))]


def _row(results: Results, name: str, full: float | None, drain: float | None, slow: float | None) -> tuple[str, ...]:
    noop = _median(results, f"peer.{name}.{NOOP}", "rate")
    sleep = _median(results, f"peer.{name}.{SLEEP}", "rate")
    target = TARGETS.get(name)
    return (
        name,
        _shown(noop) or "failed",
        _ratio(full, noop),
        str(target or ""),
        _ratio(drain, noop),
        _shown(sleep) or "failed",
        _ratio(slow, sleep),
    )


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
