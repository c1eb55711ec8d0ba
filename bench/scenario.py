"""A scenario: something that can be measured again and again."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from bench.figures import Figure, Sample
from bench.ground import Ground

Measure = Callable[[Ground], Awaitable[Sample]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """``measure`` runs it once on an installation of its own. ``how`` says what is measured, from when to when.
    ``measure`` runs on a ground with ``settings``, which the report names. ``once``: the repeats of a run need not
    repeat it, since it takes medians of rounds by itself or says little new."""

    name: str
    how: str
    figures: tuple[Figure, ...]
    measure: Measure
    once: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
