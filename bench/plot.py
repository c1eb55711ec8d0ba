"""The plot: throughput beside the peers, and latency."""

from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.comparison import throughputs
from bench.figures import show
from bench.results import Results

OURS: Final = "#2f6f8f"
THEIRS: Final = "#b8b8b8"
LATENCIES: Final = {
    "p50": "p50",
    "p99": "p99",
    "high_p50": "high priority behind\na low backlog, p50",
    "high_p99": "high priority behind\na low backlog, p99",
}


def draw(results: Results, file: Path) -> None:
    """An SVG that is the same for the same results."""
    mpl.rcParams["svg.hashsalt"] = "aftercommit"
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    rates = [(name, value, OURS if own else THEIRS) for name, value, own in throughputs(results)]
    _bars(left, rates, "no-op tasks/s, one worker process")
    latency = results.of("latency")
    medians = ((title, latency.median(name)) for name, title in LATENCIES.items())
    waits = [(title, value, OURS) for title, value in medians if value is not None]
    _bars(right, waits, "ms, submit → handler start")
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
