"""What a scenario is, and the table of all of them."""

import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from tests.faults.faults import Trial
from tests.faults.load import SUBMITS_AT_ONCE, Request, plan
from tests.faults.processes import Fleet

Inject = Callable[[Trial], Awaitable[None]]

ROUNDS: Final = 4
KILLS: Final = 10


async def no_fault(trial: Trial) -> None:
    """The load alone."""


async def nothing_to_verify(trial: Trial) -> None:
    """The account alone."""


def prepare_nothing(_fleet: Fleet, _rng: Random) -> None:
    """All processes as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """``inject`` strikes while the load runs. ``prepare`` is called before the first process starts, ``verify`` when
    everything has drained and the roles still run.

    ``settings`` are added to those of the roles. ``plan`` makes the load, of which ``submits_at_once`` requests are
    under way at a time. ``boundary`` is where processes die, which at least one must. ``needs`` is a program without
    which the scenario is skipped. ``broker_forgets``: dead letters may be gone too. ``sends_once``: hardly a message
    is sent twice.
    """

    name: str
    inject: Inject
    broker_forgets: bool = False
    sends_once: bool = False
    needs: str | None = None
    prepare: Callable[[Fleet, Random], None] = prepare_nothing
    verify: Inject = nothing_to_verify
    boundary: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    plan: Callable[[int, Random], list[Request]] = plan
    submits_at_once: int = SUBMITS_AT_ONCE

    @property
    def missing(self) -> str | None:
        """Why it cannot run here, or None."""
        return f"{self.needs} is not installed" if self.needs and shutil.which(self.needs) is None else None


SCENARIOS: Final[dict[str, Scenario]] = {}


def scenario(name: str, **options: Any) -> Callable[[Inject], Inject]:
    """Add the decorated function to the table as ``inject``; ``options`` are the other fields of ``Scenario``."""

    def add(inject: Inject) -> Inject:
        SCENARIOS[name] = Scenario(name=name, inject=inject, **options)
        return inject

    return add


async def rounds(trial: Trial, count: int, strike: Callable[[int], Awaitable[None]]) -> None:
    """Strike ``count`` times, spread over the load."""
    for turn in range(count):
        await trial.load.until((turn + trial.rng.uniform(0.2, 0.8)) / count)
        await strike(turn)
