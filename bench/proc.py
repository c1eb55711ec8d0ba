"""What the kernel counts for each process: processor time and memory (Linux's /proc)."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from aftercommit.devstack.processes import children

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
# Fields of /proc/<pid>/stat after the command's closing bracket (proc(5) numbers them from 3 on there).
_UTIME, _CUTIME = 11, 13


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time that these processes, and children of theirs that have ended, used so far."""
    return sum(_stat_seconds(pid) for pid in pids)


def resident_bytes(pids: Iterable[int]) -> int:
    """Their resident memory; pages that they share count for each."""
    return sum(_status_kibibytes(pid, "VmRSS") for pid in pids) * 1024


def family(pid: int) -> list[int]:
    """A process and all that descend from it, like a Postgres server and its backends."""
    return [pid, *(each for child in children(pid) for each in family(child))]


def _stat_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    own = sum(map(int, fields[_UTIME : _UTIME + 2]))
    ended_children = sum(map(int, fields[_CUTIME : _CUTIME + 2]))
    return (own + ended_children) / _TICKS_PER_SECOND


def _status_kibibytes(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)
