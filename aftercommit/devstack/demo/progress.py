"""Live progress: a table that redraws itself on a terminal, a line every two seconds elsewhere."""

from collections import Counter
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from aftercommit.devstack.demo.load import TASKS_PER_PRIORITY
from aftercommit.devstack.demo.observe import Counts
from aftercommit.devstack.demo.report import narrow_table

STATUSES = ("queued", "running", "retrying", "succeeded", "failed")
LINE_EVERY_SECONDS = 2.0


class Progress:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._next_line = 0.0

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, counts: Counts, elapsed_seconds: float) -> None:
        if self._live is not None:
            self._live.update(_table(counts, elapsed_seconds), refresh=True)
        elif elapsed_seconds >= self._next_line:
            self._next_line = elapsed_seconds + LINE_EVERY_SECONDS
            total = {status: sum(each[status] for each in counts.values()) for status in STATUSES}
            words = "  ".join(f"{status} {number}" for status, number in total.items())
            self._console.print(f"{elapsed_seconds:6.1f} s  {words}", highlight=False)


def _table(counts: Counts, elapsed_seconds: float) -> Table:
    table = narrow_table(f"{elapsed_seconds:.0f} s")
    table.add_column("priority")
    for status in STATUSES:
        table.add_column(status, justify="right", min_width=9)
    for priority in TASKS_PER_PRIORITY:
        of_priority = counts.get(priority, Counter())
        table.add_row(priority, *(str(of_priority[status]) for status in STATUSES))
    return table
