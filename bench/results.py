"""What a run found: kept whole as JSON, every sample, so that reports are made of it later. Pure but for the file."""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from bench.figures import Figure, Sample, median


@dataclass(slots=True, kw_only=True)
class Series:
    """All samples of one scenario, or of one peer with one kind of task; ``failures`` tell why a repeat has none."""

    samples: list[Sample] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def values(self, figure: str) -> list[float]:
        """Of the repeats that measured it."""
        return [sample[figure] for sample in self.samples if figure in sample]

    def median(self, figure: str) -> float | None:
        values = self.values(figure)
        return median(values) if values else None


@dataclass(frozen=True, slots=True)
class Description:
    """Of a scenario, so that a report needs nothing else: how it measures, its figures, and the settings that it
    changes."""

    how: str
    figures: tuple[Figure, ...]
    settings: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, content: dict[str, Any]) -> Self:
        figures = tuple(Figure.parse(figure) for figure in content["figures"])
        return cls(content["how"], figures, content.get("settings", {}))


@dataclass(slots=True, kw_only=True)
class Results:
    """``series`` by the name of the scenario, of the earlier commit as ``before.<scenario>``, and of the peer as
    ``peer.<name>.<kind>``; ``descriptions`` of the scenarios by name; ``before`` is that commit, where one was measured
    too. Times are ISO 8601, UTC."""

    started_at: str
    command: str
    commit: str
    size: str
    sizes: dict[str, int]
    settings: dict[str, str]
    machine: dict[str, str]
    versions: dict[str, str]
    postgres: dict[str, str]
    peer_versions: dict[str, str]
    repeats: int
    descriptions: dict[str, Description]
    series: dict[str, Series] = field(default_factory=dict)
    before: str = ""

    def of(self, name: str) -> Series:
        """Empty when it did not run."""
        return self.series.setdefault(name, Series())

    def median(self, name: str, figure: str) -> float | None:
        """None when it was not measured."""
        series = self.series.get(name)
        return series.median(figure) if series else None

    def failures(self) -> list[str]:
        """A line for each repeat that failed: whose, how many succeeded, and the first and the last words of why."""
        return [
            f"{name} ({len(series.samples)} other repeats succeeded): {_shortened(failure)}"
            for name, series in self.series.items()
            for failure in series.failures
        ]

    def write(self, file: Path) -> None:
        content = asdict(self)
        for name, series in self.series.items():
            figures = dict.fromkeys(figure for sample in series.samples for figure in sample)
            content["series"][name]["medians"] = {figure: series.median(figure) for figure in figures}
        file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, file: Path) -> Self:
        return cls.parse(json.loads(file.read_text()))

    @classmethod
    def parse(cls, content: dict[str, Any]) -> Self:
        series = {
            name: Series(samples=each["samples"], failures=each["failures"]) for name, each in content["series"].items()
        }
        descriptions = {name: Description.parse(each) for name, each in content["descriptions"].items()}
        return cls(**(content | {"series": series, "descriptions": descriptions}))


def _shortened(failure: str) -> str:
    """Without what stands between an error's first line and its last one that says something."""
    lines = [stripped for line in failure.splitlines() if re.search(r"\w", stripped := line.strip(" |+-"))]
    return " … ".join(dict.fromkeys((lines[0], lines[-1]))) if lines else failure
