"""Ctrl-C and SIGTERM as a request that the main thread looks at, so that no start or stop is cut in half."""

import signal
from types import FrameType


class StopRequest:
    """Counts the requests: the first asks for an orderly stop, a second one for a quick one."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)
        # A closed terminal stops it, too, except under nohup.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._receive)

    @property
    def made(self) -> bool:
        return self.count > 0

    def repeated(self) -> bool:
        return self.count > 1

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
