"""What is measured side by side: which of our scenarios stands beside what the peers run. Pure."""

from dataclasses import dataclass
from typing import Final

from bench.peers.catalogue import PEERS
from bench.peers.order import LATENCY, NOOP, PRIORITY, SLEEP, SUSTAINED
from bench.results import Results

COMPARED: Final = {"full_path": SUSTAINED, "drain": NOOP, "scale": SLEEP, "latency": LATENCY, "priority": PRIORITY}
"""Our scenarios, and what the peers run beside each."""

WITH_BEFORE: Final = ("full_path", "latency")
"""Those that an earlier commit runs, too, when one is named."""

ON_CLASSIC: Final = {"latency": {"RABBITMQ_QUEUE_TYPE": "classic"}}
"""Our scenarios that also run on classic queues, and what they set for it."""

OURS: Final = "Aftercommit"
CLASSIC: Final = "classic"
BEFORE: Final = "before"


@dataclass(frozen=True, slots=True)
class System:
    """``name`` as in the catalogue; ``title`` as a reader sees it."""

    name: str
    title: str

    def series(self, scenario: str) -> str:
        """What the samples of this scenario, or of what stands beside it, are kept under."""
        if self.name == OURS:
            return scenario
        if self.name == CLASSIC:
            return classic_series(scenario)
        if self.name == BEFORE:
            return before_series(scenario)
        return peer_series(self.name, COMPARED[scenario])


def classic_series(scenario: str) -> str:
    return f"{CLASSIC}.{scenario}"


def before_series(scenario: str) -> str:
    return f"{BEFORE}.{scenario}"


def peer_series(name: str, kind: str) -> str:
    return f"peer.{name}.{kind}"


def tried(results: Results, *scenarios: str) -> list[System]:
    """Ours first, on classic queues too, then the earlier commit, then the peers: those that were to run any of
    these."""
    every = [System(OURS, OURS), System(CLASSIC, f"{OURS}, classic queues")]
    every.append(System(BEFORE, f"{BEFORE} ({results.before})"))
    every += [System(peer.name, peer.name) for peer in PEERS]
    return [each for each in every if any(each.series(scenario) in results.series for scenario in scenarios)]
