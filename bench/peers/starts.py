"""When tasks were sent and when they started, in a file that any number of processes append to."""

import os
import struct
import time
from pathlib import Path
from typing import Final

RECORD: Final = struct.Struct("dd")
"""Of a task: the Unix times of the client's send and of the handler's first line."""


class Starts:
    """A write of 16 bytes for each task, some microseconds: whole, and seen at once by who reads the file."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def add(self, sent_at: float) -> None:
        """A handler's first line."""
        os.write(self._file, RECORD.pack(sent_at, time.time()))


def count(file: Path) -> int:
    """Of the tasks that have started."""
    return file.stat().st_size // RECORD.size if file.exists() else 0


def read(file: Path, *, since: float) -> list[tuple[float, float]]:
    """Of the tasks that were sent at ``since`` (a Unix time) or later."""
    return [record for record in RECORD.iter_unpack(file.read_bytes()) if record[0] >= since]
