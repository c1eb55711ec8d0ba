"""Finding, signalling and waiting for processes that we started, possibly in an earlier run.

A pid alone proves nothing, since pids are reused: every check also wants a marker that stands in the process's
command line. Zombies have no command line and so count as gone.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_PROC = Path("/proc")


def command_line(pid: int) -> str:
    """The command line of a process, or an empty string when there is none (any more)."""
    if (_PROC / "self/cmdline").exists():
        try:
            return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    shown = subprocess.run(["ps", "-ww", "-p", str(pid), "-o", "command="], check=False, capture_output=True, text=True)
    return shown.stdout.strip()


def is_alive(pid: int | None, marker: str) -> bool:
    return pid is not None and marker in command_line(pid)


def children(pid: int) -> list[int]:
    """The direct children of a process."""
    if not (_PROC / "self/stat").exists():
        shown = subprocess.run(["ps", "-ax", "-o", "pid=,ppid="], check=False, capture_output=True, text=True).stdout
        pairs = (line.split() for line in shown.splitlines())
        return [int(child) for child, parent in pairs if int(parent) == pid]
    found = []
    for stat in _PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = stat.read_text(errors="replace").rpartition(")")[2].split()[1]
            if int(parent) == pid:
                found.append(int(stat.parent.name))
    return found


def send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def wait_until(condition: Callable[[], bool], timeout_seconds: float, interval_seconds: float = 0.05) -> bool:
    """Polls until `condition` holds; False when it never did."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval_seconds)  # between two looks: another process tells nobody when it changes
    return True


def read_pid(path: Path) -> int | None:
    """The pid in the first line of a pid file; None when there is no such file or it is cut short."""
    try:
        return int(path.read_text().split("\n", 1)[0])
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def replace_text(path: Path, text: str) -> None:
    """Write a file so that a reader finds the old text or the new one, never a part."""
    unfinished = path.with_suffix(".new")
    unfinished.write_text(text)
    unfinished.replace(path)


def stop_recorded(path: Path, marker: str, grace_seconds: float = 30) -> bool:
    """Ends the process of a pid file: SIGTERM, after the grace SIGKILL. Removes the file; False if none ran."""
    pid = read_pid(path)
    was_alive = is_alive(pid, marker)
    if pid is not None and was_alive:
        send(pid, signal.SIGTERM)
        if not wait_until(lambda: not is_alive(pid, marker), grace_seconds):
            send(pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(pid, marker), 10)
    path.unlink(missing_ok=True)
    return was_alive


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds a file lock, so that two processes do not start or stop the same server at the same moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
