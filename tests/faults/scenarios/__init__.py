"""Each scenario: which faults strike while a load runs, seeded. All must leave an account that adds up."""

from tests.faults.scenarios import (
    of_broker,
    of_callers,
    of_cancels,
    of_code_bases,
    of_database,
    of_features,
    of_load,
    of_network,
    of_processes,
    of_queues,
    of_schedules,
    storm,
)
from tests.faults.scenarios.registry import SCENARIOS, Scenario

__all__ = [
    "SCENARIOS",
    "Scenario",
    "of_broker",
    "of_callers",
    "of_cancels",
    "of_code_bases",
    "of_database",
    "of_features",
    "of_load",
    "of_network",
    "of_processes",
    "of_queues",
    "of_schedules",
    "storm",
]
