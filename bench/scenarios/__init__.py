"""The scenarios, a file each, and the order they run in."""

from typing import Final

from bench.scenario import Scenario
from bench.scenarios import drain, full_path, latency, relay, submit

SCENARIOS: Final[dict[str, Scenario]] = {
    module.SCENARIO.name: module.SCENARIO for module in (full_path, drain, relay, submit, latency)
}
