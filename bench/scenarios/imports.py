"""What an import costs: ours, and what peers are imported for."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Final

from bench.child_process import CHECKOUT
from bench.figures import Figure, Sample, at_most, median
from bench.ground import Ground
from bench.peers.environments import DEFAULT
from bench.scenario import Scenario

OURS: Final = {"package": "aftercommit", "handler": "aftercommit.handler", "client": "aftercommit.client"}
"""The modules of each figure."""

PEERS: Final = {"celery": "celery.app.base", "dramatiq": "dramatiq"}
"""``import celery`` alone imports next to nothing; an application needs this module."""

IMPORTS: Final = 3
"""Of each module in a round."""

SECONDS: Final = 60.0
MILLISECONDS: Final = 1_000

_TIMED: Final = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"


async def measure(ground: Ground) -> Sample:
    wanted = [(name, sys.executable, module) for name, module in OURS.items()]
    if DEFAULT[0].exists():
        wanted += [(name, str(DEFAULT[0]), module) for name, module in PEERS.items()]
    took: dict[str, list[float]] = {name: [] for name, _, _ in wanted}
    for _ in range(IMPORTS * ground.sizes.rounds + 1):  # the first reads the files from the disk
        for name, python, module in wanted:
            took[name].append(await asyncio.to_thread(_import_milliseconds, python, module, ground.folder))
    sample = {name: median(values[1:]) for name, values in took.items()}
    ratios = {
        f"{ours}_{peer}": sample[ours] / sample[peer]
        for peer in PEERS
        if peer in sample
        for ours in ("handler", "client")
    }
    return sample | ratios


def _import_milliseconds(python: str, module: str, folder: Path) -> float:
    """In a new process. Raises CalledProcessError."""
    printed = subprocess.run(
        [python, "-c", _TIMED.format(module)],
        cwd=folder,
        env={"PYTHONPATH": str(CHECKOUT)} if python == sys.executable else {},
        check=True,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    ).stdout
    return float(printed) * MILLISECONDS


SCENARIO: Final = Scenario(
    "imports",
    "the time of an import in a new process, files cached: `aftercommit`, `aftercommit.handler` (what handlers are "
    "written with), `aftercommit.client`; beside `celery.app.base` (what an application of Celery's needs) and "
    "`dramatiq`, in the peers' environment",
    (
        Figure("package", "import: aftercommit", "ms", at_most(250)),
        Figure("handler", "import: aftercommit.handler", "ms", at_most(250)),
        Figure("client", "import: aftercommit.client", "ms", at_most(400)),
        Figure("celery", "import: Celery", "ms"),
        Figure("dramatiq", "import: Dramatiq", "ms"),
        Figure("handler_celery", "import: aftercommit.handler ÷ Celery", "×"),
        Figure("handler_dramatiq", "import: aftercommit.handler ÷ Dramatiq", "×"),
        Figure("client_celery", "import: aftercommit.client ÷ Celery", "×"),
        Figure("client_dramatiq", "import: aftercommit.client ÷ Dramatiq", "×"),
    ),
    measure,
)
