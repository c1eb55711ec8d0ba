"""The plot: throughput and latency beside the peers."""

from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure

from bench import single_tasks
from bench.comparison import throughputs
from bench.figures import show
from bench.results import Results
from bench.single_tasks import RATES

OURS: Final = "#2f6f8f"
THEIRS: Final = "#b8b8b8"


def draw(results: Results, file: Path) -> None:
    """An SVG that is the same for the same results."""
    mpl.rcParams["svg.hashsalt"] = "aftercommit"
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    rates = [(name, value, OURS if own else THEIRS) for name, value, own in throughputs(results)]
    _bars(left, rates, "no-op tasks/s, one worker process")
    waits = [(name, value, OURS if own else THEIRS) for name, value, own in single_tasks.p50s(results, RATES[-1])]
    _bars(right, waits, f"ms, submit → handler start, p50 at {RATES[-1]}/s")
    figure.savefig(file, metadata={"Date": None})


def _bars(axes: "mpl.axes.Axes", bars: list[tuple[str, float, str]], title: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    drawn = axes.barh(
        [name for name, _, _ in bars], [value for _, value, _ in bars], color=[colour for _, _, colour in bars]
    )
    axes.bar_label(drawn, [show(value) for _, value, _ in bars], padding=3, fontsize=8)
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
