"""What is logged of a loop's rounds that fail one after the other."""

from collections.abc import Iterator

import structlog

log = structlog.get_logger(__name__)

LONGEST_TEXT = 500


class FailuresInARow:
    """One line per failure. A traceback comes with the first one, and with each of another kind than the one before."""

    def __init__(self, loop: str) -> None:
        self._loop = loop
        self._kind: tuple[object, ...] | None = None
        self.count = 0

    def log(self, error: Exception) -> None:
        chain = list(_causes(error))
        # Postgres's own error, wherever it stands; else the nearest cause: what stands behind that is a library's.
        cause = next((one for one in chain if getattr(one, "sqlstate", None)), chain[min(1, len(chain) - 1)])
        sqlstate = getattr(cause, "sqlstate", None)
        kind = (type(error), type(cause), sqlstate)
        self.count += 1
        log.warning(
            "tick_failed",
            tick=self._loop,
            failures=self.count,
            error=_text(error),
            cause=_text(cause) if cause is not error else None,
            sqlstate=sqlstate,
            exc_info=error if kind != self._kind else None,
        )
        self._kind = kind

    def end(self) -> None:
        """A round succeeded."""
        self._kind, self.count = None, 0


def _causes(error: BaseException) -> Iterator[BaseException]:
    """``error`` and what it was raised from, as far as that goes."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:LONGEST_TEXT]
