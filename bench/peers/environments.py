"""The environments that have the peers, and which of them each peer runs in."""

import json
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bench import redis
from bench.child_process import CHECKOUT, Died
from bench.peers.catalogue import PEERS
from bench.peers.peer import Peer, Server

DEFAULT: Final = tuple(CHECKOUT / name / "bin" / "python" for name in (".venv-bench", ".venv-bench-newer"))
"""The second, where our own Python is too old for some peers."""

_VERSIONS: Final = """
import importlib.metadata, json, platform, sys
found = {each.metadata["Name"].lower(): each.version for each in importlib.metadata.distributions()}
print(json.dumps({"Python": platform.python_version()} | {name: found[name] for name in sys.argv[1:] if name in found}))
"""


@dataclass(frozen=True, slots=True)
class Environment:
    """``versions`` by package, of those that any peer names; ``Python`` is one of them."""

    python: Path
    versions: dict[str, str]

    @classmethod
    def ask(cls, python: Path) -> Self:
        """Raises CalledProcessError when this is no Python."""
        names = dict.fromkeys(package for peer in PEERS for package in peer.packages)
        command = [str(python), "-c", _VERSIONS, *names]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return cls(python, json.loads(printed))

    def has(self, peer: Peer) -> bool:
        return all(package in self.versions for package in peer.packages)


def ask(pythons: Sequence[Path]) -> list[Environment]:
    """Those that exist."""
    return [Environment.ask(python) for python in pythons if python.exists()]


def of(peer: Peer, environments: Sequence[Environment]) -> Environment:
    """The first one that has it. Raises Died when there is none."""
    for environment in environments:
        if environment.has(peer):
            return environment
    wanted = f", which needs Python {peer.python} or newer," if peer.python else ""
    raise Died(f"no environment of the peers has {peer.name}{wanted} whole: {', '.join(peer.packages)}")


def versions(environments: Sequence[Environment]) -> dict[str, str]:
    """By package, each from the first environment that has it, with the Python where that is not ours."""
    found: dict[str, str] = {}
    for environment in environments:
        python = environment.versions["Python"]
        told = "" if python == platform.python_version() else f" on Python {python}"
        for name, version in environment.versions.items():
            found.setdefault(name, version if name == "Python" else f"{version}{told}")
    if any(Server.REDIS in peer.servers for peer in PEERS) and (server := redis.version()):
        found["Redis"] = server
    return found
