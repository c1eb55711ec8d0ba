"""How often a call is sent, how long each try may take, and what its failure becomes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn, TypedDict

import httpx
from tenacity import RetryCallState, retry_if_exception, stop_before_delay, wait_random_exponential
from tenacity.retry import retry_base
from tenacity.stop import stop_base

from aftercommit.client.call import Call
from aftercommit.client.errors import ApiError, ServiceUnavailable

FIRST_WAIT_SECONDS: Final = 0.25
LONGEST_WAIT_SECONDS: Final = 5.0

NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""The service has seen nothing of the request."""

LOST: Final = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)
"""What became of the request is unknown."""

TRANSIENT: Final = frozenset({408, 429, 502, 503, 504})
UNTOUCHED: Final = frozenset({"body-timeout", "overloaded"})
"""Codes of answers that say that nothing was done."""

TOO_MANY_REQUESTS: Final = 429


class Options(TypedDict):
    """Of tenacity."""

    retry: retry_base
    wait: Callable[[RetryCallState], float]
    stop: stop_base
    retry_error_callback: Callable[[RetryCallState], Any]


_backoff: Final = wait_random_exponential(multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS)


class Tries:
    """The tries of one call. All of them together, and the waits between them, take ``timeout`` seconds, each one
    ``try_timeout``; the time for which the call lets the service hold its answer back is added to both."""

    def __init__(self, call: Call[Any], *, timeout: float, try_timeout: float) -> None:
        self._call = call
        self._seconds = timeout + call.wait_seconds
        self._try_seconds = try_timeout + call.wait_seconds
        self._connect_seconds = try_timeout
        self._ends_at = time.monotonic() + self._seconds

    @property
    def options(self) -> Options:
        return {
            "retry": retry_if_exception(self._may_repeat),
            "wait": pause_seconds,
            "stop": stop_before_delay(self._seconds),
            "retry_error_callback": self._give_up,
        }

    def next_timeout(self) -> httpx.Timeout:
        """Of the try that begins now."""
        left = max(self._ends_at - time.monotonic(), 0.001)
        return httpx.Timeout(min(self._try_seconds, left), connect=min(self._connect_seconds, left))

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turns what httpx raises into ServiceUnavailable."""
        try:
            yield
        except httpx.RequestError as error:
            raise self._unavailable("was not repeated, since the service may have done it", error) from error

    def _may_repeat(self, error: BaseException) -> bool:
        return may_repeat(self._call, error)

    def _give_up(self, state: RetryCallState) -> NoReturn:
        error = state.outcome.exception() if state.outcome is not None else None
        tries = f"{state.attempt_number} tries" if state.attempt_number > 1 else "one try"
        raise self._unavailable(f"did not succeed within {self._seconds:g} s, in {tries}", error) from error

    def _unavailable(self, what: str, error: BaseException | None) -> ServiceUnavailable:
        key = self._call.idempotency_key
        advice = f"; to repeat it without making a second task, give idempotency_key={key!r}" if key else ""
        return ServiceUnavailable(
            f"{self._call.method} {self._call.path} {what}: {type(error).__name__}: {error}{advice}",
            status=error.status if isinstance(error, ApiError) else None,
            idempotency_key=key,
        )


def may_repeat(call: Call[Any], error: BaseException) -> bool:
    """Whether another try may succeed and does no harm. A call that is not repeatable is sent again only if the service
    has surely done nothing."""
    if not isinstance(error, ApiError):
        return isinstance(error, LOST if call.repeatable else NOT_SENT)
    if call.repeatable:
        return error.status in TRANSIENT
    return error.status == TOO_MANY_REQUESTS or error.code in UNTOUCHED


def pause_seconds(state: RetryCallState) -> float:
    """Before the next try: a random part of an interval that doubles, after what ``Retry-After`` asks for."""
    error = state.outcome.exception() if state.outcome is not None else None
    asked = error.retry_after_seconds if isinstance(error, ApiError) else None
    return (asked or 0.0) + _backoff(state)
