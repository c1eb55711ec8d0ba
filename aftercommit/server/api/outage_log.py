"""Log lines about requests that fail for reasons of ours: a few for each cause, however many requests fail."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

import structlog

from aftercommit.core.errors import AftercommitError
from aftercommit.runtime.poll import poll

log = structlog.get_logger(__name__)

REMIND_SECONDS: Final = 10.0
"""Between lines about one cause that goes on."""

QUIET_SECONDS: Final = 5.0
"""A cause is over when no request failed for it in this time."""

LONGEST_TEXT: Final = 500

Cause = tuple[str, str, str | None]
"""The error's code, the type of the exception below it, and its SQLSTATE."""


@dataclass(slots=True)
class _Outage:
    began_at: float
    seen_at: float
    logged_at: float
    requests: int = 1


class OutageLog:
    """Counts failed requests by cause. The first of each is logged with its traceback, then a line every
    REMIND_SECONDS, and one when the cause is over."""

    def __init__(self) -> None:
        self._outages: dict[Cause, _Outage] = {}

    def note(self, error: AftercommitError, *, path: str) -> None:
        """A request ended with ``error``, whose cause is the exception it was raised from."""
        below = error.__cause__ or error
        sqlstate = getattr(below, "sqlstate", None)
        cause = (error.code, type(below).__name__, sqlstate)
        now = time.monotonic()
        outage = self._outages.get(cause)
        if outage is None:
            self._outages[cause] = _Outage(now, now, now)
            self._warn(error, cause, path=path, requests=1, exc_info=error)
            return
        outage.requests += 1
        outage.seen_at = now
        if now - outage.logged_at >= REMIND_SECONDS:
            outage.logged_at = now
            self._warn(error, cause, path=path, requests=outage.requests, exc_info=None)

    async def run(self, stopping: asyncio.Event) -> None:
        """Say of each cause when it is over."""
        await poll("outage-log", self._tick, stopping=stopping)

    async def _tick(self) -> float:
        now = time.monotonic()
        for cause in [cause for cause, outage in self._outages.items() if now - outage.seen_at >= QUIET_SECONDS]:
            outage = self._outages.pop(cause)
            code, kind, sqlstate = cause
            log.info(
                "requests_no_longer_refused",
                code=code,
                error=kind,
                sqlstate=sqlstate,
                requests=outage.requests,
                seconds=round(outage.seen_at - outage.began_at, 1),
            )
        return 1.0

    @staticmethod
    def _warn(
        error: AftercommitError, cause: Cause, *, path: str, requests: int, exc_info: AftercommitError | None
    ) -> None:
        code, kind, sqlstate = cause
        below = error.__cause__ or error
        log.warning(
            "requests_refused",
            code=code,
            detail=error.detail,
            error=f"{kind}: {below}"[:LONGEST_TEXT],
            sqlstate=sqlstate,
            requests=requests,
            path=path,
            exc_info=exc_info,
        )
