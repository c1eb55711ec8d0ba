"""python -m tests.faults.crashing <boundary> <nth> <module>: a role that kills itself at a named boundary.

The product has no hook for this: the function at the boundary is replaced before the role starts.
"""

import importlib
import itertools
import runpy
import sys
from typing import Any

from tests.faults.boundaries import BOUNDARIES, Boundary, IsDue


def _at(nth: int) -> IsDue:
    calls = itertools.count(1)
    return lambda: next(calls) % nth == 0


def owner_of(boundary: Boundary) -> Any:
    """The module or class that holds the function at the boundary."""
    module = importlib.import_module(boundary.module)
    return module if boundary.owner is None else getattr(module, boundary.owner)


def arm(boundary: Boundary, nth: int) -> None:
    """Replace the function at the boundary."""
    owner = owner_of(boundary)
    setattr(owner, boundary.name, boundary.wrap(getattr(owner, boundary.name), _at(nth)))


if __name__ == "__main__":
    _, name, nth, module = sys.argv
    arm(BOUNDARIES[name], int(nth))
    sys.argv = [module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
