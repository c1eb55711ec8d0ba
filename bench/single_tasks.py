"""Latency and processor time of single tasks, ours beside the peers'. Pure."""

from typing import Final

from bench.figures import show
from bench.results import Results
from bench.systems import OURS, System, tried

RATES: Final = (100, 500)
"""Single POSTs per second."""

PARTS: Final = {
    "api": "API",
    "worker": "worker",
    "relay": "relay",
    "postgres": "Postgres",
    "rabbitmq": "RabbitMQ",
    "redis": "Redis",
}
"""Of the processor time, with its title."""

BEHIND_SECONDS: Final = 0.5
"""A system fell behind when more than so many seconds of load had not started as the last task was due."""

HEADER: Final = ("system", "p50, ms", "p99, ms", "processor time, ms/task", *PARTS.values())
PRIORITY_HEADER: Final = ("system", "p50, ms", "p99, ms", "low tasks that still waited at the end")
FAILED: Final = "failed"


def rows(results: Results, rate: int) -> list[tuple[str, ...]]:
    """A row for each system that was tried."""
    return [_row(results, system, rate) for system in tried(results, "latency")]


def p50s(results: Results, rate: int) -> list[tuple[str, float, bool]]:
    """In ms, by system, ours first, and whether it is ours; without those that fell behind, whose is no figure."""
    prefix = f"{rate}."
    found = [
        (each.title, results.median(series, f"{prefix}p50"), each.name == OURS)
        for each in tried(results, "latency")
        if not fell_behind(results, series := each.series("latency"), prefix)
    ]
    return [(title, value, ours) for title, value, ours in found if value is not None]


def priority_rows(results: Results) -> list[tuple[str, ...]]:
    return [_priority_row(results, system) for system in tried(results, "priority")]


def fell_behind(results: Results, series: str, prefix: str = "") -> bool:
    """In the median of the repeats."""
    behind = results.median(series, f"{prefix}behind")
    return behind is not None and behind > BEHIND_SECONDS


def _row(results: Results, system: System, rate: int) -> tuple[str, ...]:
    series = system.series("latency")
    figures = ["cpu", *PARTS]
    costs = ["" if (value := results.median(series, f"{rate}.{name}")) is None else show(value) for name in figures]
    return (system.title, *_waits(results, series, f"{rate}."), *costs)


def _priority_row(results: Results, system: System) -> tuple[str, ...]:
    series = system.series("priority")
    waiting = results.median(series, "still_waiting")
    return (system.title, *_waits(results, series), "" if waiting is None else show(waiting))


def _waits(results: Results, series: str, prefix: str = "") -> tuple[str, str]:
    p50, p99 = (results.median(series, f"{prefix}{name}") for name in ("p50", "p99"))
    if p50 is None or p99 is None:
        return FAILED, ""
    told = "fell behind: {} or more" if fell_behind(results, series, prefix) else "{}"
    return told.format(show(p50)), told.format(show(p99))
