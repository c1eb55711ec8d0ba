"""How a role's process lives: settings, logs, signals, and the one loop that all periodic work runs in."""

import asyncio
import atexit
import gc
import logging
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog
import tenacity
import uvloop

from app.config import Settings, load_settings
from app.health import BEAT_SECONDS
from app.logs import configure_logs

log = structlog.get_logger(__name__)

LONGEST_BACKOFF_SECONDS: Final = 5.0
LEAVE_SECONDS: Final = 5.0

YOUNG_OBJECTS: Final = 50_000
"""Allocated and not yet freed, before the garbage collector looks at them."""

Role = Callable[[Settings, asyncio.Event], Awaitable[None]]


def run_role(name: str, role: Role) -> None:
    """Run ``role(settings, stopping)`` to its end. The first SIGTERM or SIGINT sets ``stopping``, a second ends it.

    Exits 0 after an orderly stop, 1 when the role failed or was ended by a second signal, 2 on a bad setting. Threads
    that a handler left behind do not keep the process alive for longer than LEAVE_SECONDS.
    """
    settings = load_settings()
    configure_logs(form=settings.log_format, level=settings.log_level)
    structlog.contextvars.bind_contextvars(role=name)
    _spare_the_collector()
    try:
        uvloop.run(_supervise(role, settings))
    except asyncio.CancelledError:
        log.warning("stopped_at_once")
        sys.exit(1)
    except Exception:
        log.exception("role_failed")
        sys.exit(1)


def _spare_the_collector() -> None:
    """What is imported stays, and what a batch makes dies with it by reference count: looking for cycles among them
    after every few hundred objects would cost a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)


async def _supervise(role: Role, settings: Settings) -> None:
    stopping = asyncio.Event()
    main = asyncio.current_task()

    def on_signal() -> None:
        if stopping.is_set() and main is not None:
            main.cancel()
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    if settings.health_file is not None:
        _beat(loop, settings.health_file)
    log.info("started", queues=list(settings.queues))
    status = 1
    try:
        await role(settings, stopping)
        status = 0
        log.info("stopped")
    finally:
        # A signal: a timer of ours would need a thread, and there may be none left.
        signal.signal(signal.SIGALRM, lambda *_: _abandon_threads(status))
        signal.setitimer(signal.ITIMER_REAL, LEAVE_SECONDS)
        # Called when no thread is waited for any more, and before Python takes our handler away.
        atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)


def _abandon_threads(status: int) -> None:
    log.warning("threads_abandoned")
    logging.shutdown()
    os._exit(status)


def _beat(loop: asyncio.AbstractEventLoop, file: Path) -> None:
    """Touch ``file`` for as long as ``loop`` turns: ``app.health`` looks at its age."""
    file.touch()
    loop.call_later(BEAT_SECONDS, _beat, loop, file)


async def poll(
    name: str,
    tick: Callable[[], Awaitable[float]],
    *,
    stopping: asyncio.Event,
    wake: asyncio.Event | None = None,
) -> None:
    """Call ``tick`` until ``stopping``. It returns the seconds until the next call, 0 for at once.

    ``wake`` cuts a wait short, and is set at the end. A tick that raises is logged and called again after a growing,
    jittered wait, so no error path spins; this is the wide catch at a role's edge.
    """
    wake = wake or asyncio.Event()
    # One task for the loop's life: a busy loop waits thousands of times a second.
    end = asyncio.ensure_future(stopping.wait())
    end.add_done_callback(lambda _: wake.set())
    try:
        await _turn(name, tick, stopping, wake)
    finally:
        end.cancel()


async def _turn(name: str, tick: Callable[[], Awaitable[float]], stopping: asyncio.Event, wake: asyncio.Event) -> None:
    backoff = tenacity.wait_random_exponential(multiplier=0.1, max=LONGEST_BACKOFF_SECONDS, min=0.05)
    async for attempt in tenacity.AsyncRetrying(
        wait=backoff,
        retry=tenacity.retry_if_exception_type(Exception),
        stop=tenacity.stop_when_event_set(stopping),  # type: ignore[arg-type]  # needs only is_set()
        before_sleep=lambda state: _log_failure(name, state),
        sleep=lambda seconds: first_of(stopping, timeout_seconds=seconds),
        retry_error_callback=lambda _: None,
    ):
        with attempt:
            while not stopping.is_set():
                wake.clear()
                delay = await tick()
                # What failed before is over; the next failure is the first again.
                attempt.retry_state.attempt_number = 1
                if delay > 0 and not stopping.is_set():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(delay * random.uniform(0.9, 1.1)):
                            await wake.wait()


def _log_failure(name: str, state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("tick_failed", tick=name, tries=state.attempt_number, error=f"{type(error).__name__}: {error}"[:500])


async def first_of(*events: asyncio.Event, timeout_seconds: float | None = None) -> None:
    """Return when the first of ``events`` is set, or after ``timeout_seconds``."""
    if any(event.is_set() for event in events):
        return
    if not events:
        await asyncio.sleep(timeout_seconds or 0)
        return
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
