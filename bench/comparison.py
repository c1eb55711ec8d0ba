"""Ours beside the peers', from the same run, as tables. Pure."""

from dataclasses import dataclass
from typing import Final

from bench import single_tasks, targets
from bench.figures import show
from bench.results import Results
from bench.single_tasks import RATES
from bench.systems import BEFORE, OURS, System, tried

THROUGHPUT: Final = {"full_path": "rate", "drain": "rate", "scale": "one"}
"""Scenarios whose throughput is compared, and the figure that has it."""

THROUGHPUT_HEADER: Final = (
    "one worker process",
    "full path, tasks/s",
    "ours ÷ it",
    "drain, tasks/s",
    "ours ÷ it",
    "10 ms, tasks/s",
    "ours ÷ it",
)

OURS_KEEPS: Final = (
    "The task, its payload, its state and each attempt in Postgres from the submit's commit on; the result; the "
    "outcome exactly once; the message confirmed in a quorum queue,"
    " and enqueued again when RabbitMQ loses it. It runs at "
    "least once."
)


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


def tables(results: Results) -> list[Table]:
    """Those that have a row."""
    found = [
        Table("Targets", targets.HEADER, targets.rows(results)),
        *(
            Table(f"Single tasks, {rate} a second", single_tasks.HEADER, single_tasks.rows(results, rate))
            for rate in RATES
        ),
        Table("High priority behind a backlog", single_tasks.PRIORITY_HEADER, single_tasks.priority_rows(results)),
        Table("Throughput", THROUGHPUT_HEADER, throughput_rows(results)),
    ]
    return [table for table in found if table.rows]


def throughputs(results: Results) -> list[tuple[str, float, bool]]:
    """No-op tasks/s of the full path by name, ours first, and whether it is ours."""
    systems = tried(results, "full_path")
    found = [(each.title, results.median(each.series("full_path"), "rate"), each.name == OURS) for each in systems]
    return [(title, value, ours) for title, value, ours in found if value is not None]


def throughput_rows(results: Results) -> list[tuple[str, ...]]:
    """A row of ours, then one for each system that was tried; ``failed`` where it has no figure."""
    return [_throughput_row(results, system) for system in tried(results, *THROUGHPUT)]


def _throughput_row(results: Results, system: System) -> tuple[str, ...]:
    cells: list[str] = []
    for scenario, figure in THROUGHPUT.items():
        ours = results.median(scenario, figure)
        if system.name == OURS:
            cells += ["" if ours is None else show(ours), ""]
            continue
        series = system.series(scenario)
        theirs = results.median(series, figure if system.name == BEFORE else "rate")
        missing = "failed" if series in results.series else ""
        cells += [missing if theirs is None else show(theirs), _ratio(ours, theirs)]
    return (system.title, *cells)


def _ratio(ours: float | None, theirs: float | None) -> str:
    return "" if ours is None or theirs is None else f"{show(ours / theirs)} ×"
