"""Merged, readable logs: each line behind the name of its role, in a colour of its own."""

import os
import sys
import threading
from itertools import cycle

_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95)


class Console:
    """Writes whole lines to stdout from any thread."""

    def __init__(self) -> None:
        self._coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._free_colours = cycle(_COLOURS)
        self._colours: dict[str, int] = {}
        self._guard = threading.Lock()

    def line(self, name: str, text: str) -> None:
        with self._guard:
            if name not in self._colours:
                self._colours[name] = next(self._free_colours)
            prefix = f"{name:<12}│"
            if self._coloured:
                prefix = f"\x1b[{self._colours[name]}m{prefix}\x1b[0m"
            print(prefix, text, flush=True)

    def say(self, text: str) -> None:
        self.line("devstack", text)
