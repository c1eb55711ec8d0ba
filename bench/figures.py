"""Figures and what is made of their samples. Pure."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

Sample = dict[str, float]
"""What one repeat of a scenario measured: the name of each figure, and its value."""


class Bound(StrEnum):
    AT_LEAST = "≥"
    AT_MOST = "≤"


@dataclass(frozen=True, slots=True)
class Target:
    bound: Bound
    value: float

    def met(self, value: float) -> bool:
        return value >= self.value if self.bound is Bound.AT_LEAST else value <= self.value

    def __str__(self) -> str:
        return f"{self.bound} {show(self.value)}"


def at_least(value: float) -> Target:
    return Target(Bound.AT_LEAST, value)


def at_most(value: float) -> Target:
    return Target(Bound.AT_MOST, value)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity of a scenario: its name there, what it tells, its unit, and what is wanted of it."""

    name: str
    title: str
    unit: str
    target: Target | None = None

    @classmethod
    def parse(cls, content: dict[str, Any]) -> Self:
        """From what ``dataclasses.asdict`` made of it."""
        wanted = content["target"]
        target = Target(Bound(wanted["bound"]), wanted["value"]) if wanted else None
        return cls(content["name"], content["title"], content["unit"], target)


def median(samples: Sequence[float]) -> float:
    return statistics.median(samples)


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that at least ``percent`` of all do not exceed (nearest rank)."""
    ordered = sorted(samples)
    return ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Of the medians."""
    return median(ours) / median(theirs)


def show(value: float) -> str:
    """Three significant digits, thousands apart: 12,300, 3.46, 0.0123."""
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return f"{rounded:,.{max(digits, 0)}f}" if digits > 0 and rounded != int(rounded) else f"{rounded:,.0f}"
