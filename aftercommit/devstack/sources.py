"""The Python files of a project: which of them have handlers, and whether one changed."""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

POLL_SECONDS = 0.3

_FOREIGN = {"__pycache__", "node_modules", "site-packages"}
_TESTS = re.compile(r"(?:test_.*|.*_test|conftest)\.py")
_IMPORT = re.compile(r"^\s*(?:from|import)\s+aftercommit\b", re.MULTILINE)
_DECORATOR = re.compile(r"^\s*@(?:aftercommit\.)?task\(", re.MULTILINE)

Stamps = dict[Path, tuple[int, int]]


def python_files(folder: Path) -> Iterator[Path]:
    """All below `folder`, but those of virtual environments, of installed packages and of hidden folders."""
    for parent, folders, files in os.walk(folder):
        if "pyvenv.cfg" in files:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _FOREIGN)
        yield from (Path(parent, name) for name in sorted(files) if name.endswith(".py"))


def handler_modules(folder: Path) -> list[str]:
    """The modules below `folder` that decorate functions with `aftercommit.task`, tests left aside."""
    return [
        module
        for file in python_files(folder)
        if (module := _module_name(file.relative_to(folder))) is not None and _has_handlers(file)
    ]


def _module_name(file: Path) -> str | None:
    if _TESTS.fullmatch(file.name) or "tests" in file.parts:
        return None
    parts = file.with_suffix("").parts
    if parts[-1] == "__init__":
        parts = parts[:-1]
    if parts[:1] == ("src",):
        parts = parts[1:]
    return ".".join(parts) if parts and all(part.isidentifier() for part in parts) else None


def _has_handlers(file: Path) -> bool:
    # By the text, not by its syntax tree: a file with a syntax error shall be named by the worker, not overlooked.
    try:
        text = file.read_text(errors="replace")
    except OSError:
        return False
    return bool(_IMPORT.search(text) and _DECORATOR.search(text))


class SourceWatcher:
    """Calls `on_change` with a changed file, once the files below `folders` rest again.

    It polls: a notifying watch would have to be told of virtual environments and of the database's own files, which are
    below the same folder, and says nothing on network and container mounts.
    """

    def __init__(self, folders: Sequence[Path], on_change: Callable[[Path], None]) -> None:
        self._folders = folders
        self._on_change = on_change
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="sources", daemon=True)
        self._known = self._look()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Harmless when it was not started."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        changed: Path | None = None
        pause = POLL_SECONDS
        while not self._stopping.wait(pause):
            began = time.monotonic()
            found = self._look()
            # In a folder of very many files it takes a tenth of a processor, not all of it.
            pause = max(POLL_SECONDS, 10 * (time.monotonic() - began))
            if found != self._known:
                changed = next(file for file, _ in found.items() ^ self._known.items())
                self._known = found
            elif changed is not None:
                self._on_change(changed)
                changed = None

    def _look(self) -> Stamps:
        stamps: Stamps = {}
        for folder in self._folders:
            for file in python_files(folder):
                try:
                    stat = file.stat()
                except OSError:
                    continue
                stamps[file] = (stat.st_mtime_ns, stat.st_size)
        return stamps
