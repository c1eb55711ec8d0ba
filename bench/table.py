"""The figures as a table of plain text. Pure."""

from collections.abc import Sequence
from typing import Final

from bench.figures import Figure, show
from bench.results import Results, Series

HEADER: Final = ("figure", "median", "samples", "target", "met")


def rows(results: Results) -> list[tuple[str, ...]]:
    """A row for each figure that was measured: title, median with its unit, spread, target, whether it is met."""
    return [
        (figure.title, *_shown(figure, results.series[name]))
        for name, description in results.descriptions.items()
        for figure in description.figures
        if results.of(name).values(figure.name)
    ]


def _shown(figure: Figure, series: Series) -> tuple[str, str, str, str]:
    values = series.values(figure.name)
    middle = series.median(figure.name) or 0.0
    spread = f"{show(min(values))} to {show(max(values))}" if len(values) > 1 else ""
    if figure.target is None:
        return f"{show(middle)} {figure.unit}", spread, "", ""
    return f"{show(middle)} {figure.unit}", spread, str(figure.target), "yes" if figure.target.met(middle) else "no"


def plain(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their content."""
    widths = [max(len(row[column]) for row in (header, *body)) for column in range(len(header))]
    lines = [header, ["-" * width for width in widths], *body]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
