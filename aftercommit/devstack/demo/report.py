"""What the demo prints at its end."""

import math
from collections.abc import Iterable
from datetime import datetime

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from aftercommit.devstack.demo.account import Line
from aftercommit.devstack.demo.client import Json
from aftercommit.devstack.demo.load import TASKS_PER_PRIORITY


def print_outcome(console: Console, tasks: Iterable[Json]) -> None:
    """A row per priority: how its tasks ended, and how long they took from submit."""
    table = narrow_table("From submit to start and to finish")
    table.add_column("priority")
    columns = (
        "tasks",
        "success",
        "retried",
        "failed",
        "start p50",
        "start p95",
        "finish p50",
        "finish p95",
    )
    for column in columns:
        table.add_column(column, justify="right")
    tasks = list(tasks)
    for priority in TASKS_PER_PRIORITY:
        table.add_row(priority, *_row([task for task in tasks if task["priority"] == priority]))
    table.add_section()
    table.add_row("all", *_row(tasks))
    console.print()
    console.print(table)


def _row(tasks: list[Json]) -> list[str]:
    succeeded = [task for task in tasks if task["status"] == "succeeded"]
    starts = _seconds_since_submit(tasks, "first_started_at")
    finishes = _seconds_since_submit(tasks, "finished_at")
    return [
        str(len(tasks)),
        str(len(succeeded)),
        str(sum(task["attempt"] > 1 for task in succeeded)),
        str(sum(task["status"] == "failed" for task in tasks)),
        *(_duration(percentile(values, share)) for values in (starts, finishes) for share in (0.50, 0.95)),
    ]


def print_dead_letter(console: Console, task: Json, attempts: list[Json]) -> None:
    """One failed task with its history."""
    url = task["payload"]["url"]
    table = narrow_table(f"A dead letter: task {task['id']}, {task['priority']}, POST {url}")
    for column in ("attempt", "after", "took", "outcome", "worker", "error"):
        table.add_column(column, justify="right" if column in ("attempt", "after", "took") else "left")
    for attempt in attempts:
        error = attempt["error"] or {}
        table.add_row(
            str(attempt["attempt"]),
            _duration(_between(task["created_at"], attempt["started_at"])),
            _duration(_between(attempt["started_at"], attempt["finished_at"])),
            attempt["outcome"],
            attempt["worker"],
            f"{error.get('type')}: {error.get('message')}",
        )
    console.print()
    console.print(table)


def print_account(console: Console, lines: list[Line]) -> None:
    table = narrow_table("The account")
    table.add_column("line")
    table.add_column("must be", justify="right")
    table.add_column("is", justify="right")
    table.add_column("")
    for line in lines:
        verdict = "[green]adds up[/]" if line.adds_up else "[bold red]does not add up[/]"
        table.add_row(line.text, str(line.expected), str(line.found), verdict)
    console.print()
    console.print(table)


def narrow_table(title: str) -> Table:
    """Fits a terminal of 80 columns."""
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)


def percentile(values: list[float], share: float) -> float | None:
    """The smallest value that at least `share` of the values do not exceed; None without values."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _seconds_since_submit(tasks: list[Json], moment: str) -> list[float]:
    return [_between(task["created_at"], task[moment]) for task in tasks if task[moment]]


def _between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f}\N{NO-BREAK SPACE}ms" if seconds < 1 else f"{seconds:.1f}\N{NO-BREAK SPACE}s"
