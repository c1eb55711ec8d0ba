"""The scenarios, a file for each kind, and the order they run in."""

from typing import Final

from bench.scenario import Scenario
from bench.scenarios import (
    caller_transaction,
    code_bases,
    drain,
    forward,
    full_path,
    growth,
    horizon,
    idle,
    imports,
    latency,
    machine,
    priority,
    profile,
    relay,
    scale,
    scheduled,
    share,
    submit,
)

SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.name: scenario
    for scenario in (
        full_path.SCENARIO,
        drain.SCENARIO,
        machine.SCENARIO,
        scale.SCENARIO,
        latency.SCENARIO,
        priority.SCENARIO,
        *profile.SCENARIOS,
        relay.SCENARIO,
        share.SCENARIO,
        submit.SCENARIO,
        caller_transaction.SCENARIO,
        forward.SCENARIO,
        code_bases.SCENARIO,
        idle.SCENARIO,
        imports.SCENARIO,
        growth.SCENARIO,
        scheduled.SCENARIO,
        horizon.SCENARIO,
    )
}

PROFILES: Final = profile.SCENARIOS
"""The processor time of each stage."""
