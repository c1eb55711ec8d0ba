"""Merged, readable logs: each line behind the name of its role, in a colour of its own."""

import os
import sys
import threading
from itertools import cycle

_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95)


class Console:
    """Writes whole lines to stdout from any thread. A terminal that was closed takes them away without an error."""

    def __init__(self) -> None:
        self._coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._free_colours = cycle(_COLOURS)
        self._colours: dict[str, int] = {}
        self._guard = threading.Lock()

    def line(self, name: str, text: str) -> None:
        with self._guard:
            if name not in self._colours:
                self._colours[name] = next(self._free_colours)
            self._write(f"{self._painted(f'{name:<11} │', self._colours[name])} {text}")

    def say(self, text: str) -> None:
        self.line("dev", text)

    def block(self, text: str) -> None:
        """Lines that stand out, without a name."""
        with self._guard:
            headline, _, rest = text.partition("\n")
            self._write(f"\n{self._painted(headline, 1)}\n{rest}\n")

    def _painted(self, text: str, colour: int) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._coloured else text

    @staticmethod
    def _write(text: str) -> None:
        try:
            print(text, flush=True)
        except OSError:  # an orderly stop matters more than its last words
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # for the rest of the process's life
