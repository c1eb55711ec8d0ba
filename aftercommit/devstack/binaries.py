"""Where the PostgreSQL and RabbitMQ programs of this machine are."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aftercommit.devstack.failure import DevstackError

OLDEST_POSTGRES = 14
POSTGRES_NEEDED = f"PostgreSQL {OLDEST_POSTGRES} or newer"
RABBITMQ_NEEDED = "RabbitMQ 3.10 or newer"

_HOMEBREW = (Path("/opt/homebrew"), Path("/usr/local"), Path("/home/linuxbrew/.linuxbrew"))


@dataclass(frozen=True, slots=True)
class PostgresBinaries:
    folder: Path
    major: int

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)


@dataclass(frozen=True, slots=True)
class RabbitBinaries:
    folder: Path
    epmd: Path

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)


def postgres_binaries() -> PostgresBinaries:
    """The newest PostgreSQL >= 14; a `DevstackError` when there is none."""
    found = find_postgres()
    if found is None:
        raise DevstackError(f"{POSTGRES_NEEDED} was not found: put its programs on PATH.")
    return found


def rabbitmq_binaries() -> RabbitBinaries:
    """RabbitMQ and its epmd; a `DevstackError` when they are missing."""
    found = find_rabbitmq()
    if found is None:
        raise DevstackError(f"{RABBITMQ_NEEDED} was not found: put rabbitmq-server, erl and epmd on PATH.")
    return found


def find_postgres() -> PostgresBinaries | None:
    found = [
        PostgresBinaries(folder, major)
        for folder in dict.fromkeys(_postgres_folders())
        if (folder / "initdb").exists() and (major := _postgres_major(folder / "postgres")) >= OLDEST_POSTGRES
    ]
    return max(found, key=lambda binaries: binaries.major, default=None)


def _postgres_folders() -> Iterator[Path]:
    if server := shutil.which("postgres"):
        yield Path(server).resolve().parent
    if pg_config := shutil.which("pg_config"):
        shown = subprocess.run([pg_config, "--bindir"], check=False, capture_output=True, text=True)
        if shown.returncode == 0:
            yield Path(shown.stdout.strip())
    yield from Path("/usr/lib/postgresql").glob("*/bin")
    yield from Path("/usr").glob("pgsql-*/bin")
    for prefix in _HOMEBREW:
        yield from prefix.glob("opt/postgresql*/bin")


def _postgres_major(server: Path) -> int:
    if not os.access(server, os.X_OK):
        return 0
    shown = subprocess.run([server, "--version"], check=False, capture_output=True, text=True)
    match = re.search(r"\(PostgreSQL\) (\d+)", shown.stdout)
    return int(match[1]) if match else 0


def find_rabbitmq() -> RabbitBinaries | None:
    epmd = _find_epmd()
    for folder in _rabbit_folders():
        # Distributions put a wrapper on PATH that switches to the user of the system's own server. The real
        # scripts stand beside `rabbitmq-env`.
        if epmd and (folder / "rabbitmq-server").exists() and (folder / "rabbitmq-env").exists():
            return RabbitBinaries(folder, epmd)
    return None


def _rabbit_folders() -> Iterator[Path]:
    yield Path("/usr/lib/rabbitmq/bin")
    if server := shutil.which("rabbitmq-server"):
        yield Path(server).parent
        yield Path(server).resolve().parent
    yield from sorted(Path("/usr/lib/rabbitmq/lib").glob("*/sbin"), reverse=True)
    for prefix in _HOMEBREW:
        yield prefix / "opt/rabbitmq/sbin"


def _find_epmd() -> Path | None:
    if on_path := shutil.which("epmd"):
        return Path(on_path)
    if erl := shutil.which("erl"):
        return next(iter(sorted(Path(erl).resolve().parents[1].glob("**/bin/epmd"), reverse=True)), None)
    return None
