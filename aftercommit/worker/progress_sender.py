"""Sends the progress of an isolated attempt from its process to the worker."""

import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Final

from aftercommit.db.progress import Progress

INTERVAL_SECONDS: Final = 0.2


class ProgressSender:
    """Sends the latest of what was told, in a thread of its own: the handler may keep the event loop busy."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._told = threading.Condition()
        self._latest: Progress | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def tell(self, told: Progress) -> None:
        """Have ``told`` sent unless another one follows. From any thread."""
        with self._told:
            self._latest = told
            self._told.notify()
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
                with suppress(RuntimeError):  # no thread can be started: the last one is sent at the end
                    self._thread.start()

    def close(self) -> None:
        """Send what is left. Nothing is sent after that."""
        with self._told:
            self._closed = True
            self._send_latest()

    def _run(self) -> None:
        while True:
            with self._told:
                self._told.wait_for(lambda: self._latest is not None)
                if self._closed:
                    return
                self._send_latest()
            time.sleep(INTERVAL_SECONDS)  # its own thread; what is told meanwhile is sent after it

    def _send_latest(self) -> None:
        if self._latest is not None:
            with suppress(OSError):  # the worker is gone, and this process ends
                self._connection.send(self._latest)
            self._latest = None
