"""The scenarios, a file each, and the order they run in."""

from typing import Final

from bench.scenario import Scenario
from bench.scenarios import (
    drain,
    full_path,
    growth,
    horizon,
    idle,
    latency,
    machine,
    profile,
    relay,
    scale,
    share,
    submit,
)

SCENARIOS: Final[dict[str, Scenario]] = {
    module.SCENARIO.name: module.SCENARIO
    for module in (full_path, drain, machine, scale, profile, relay, share, submit, latency, idle, growth, horizon)
}

COMPARED: Final = (full_path.SCENARIO.name, drain.SCENARIO.name, scale.SCENARIO.name)
"""Those that stand beside the peers' figures."""
