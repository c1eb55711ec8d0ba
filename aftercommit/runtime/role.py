"""Runs a role as a process: settings, logs, signals, exit status."""

import asyncio
import atexit
import gc
import itertools
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog
import uvloop

from aftercommit.core.settings import Settings, load_settings
from aftercommit.runtime.liveness import BEAT_SECONDS
from aftercommit.telemetry.logs import configure_logs

log = structlog.get_logger(__name__)

LEAVE_SECONDS: Final = 5.0

YOUNG_OBJECTS: Final = 50_000
"""Allocated and not yet freed, before the garbage collector looks at them."""

Role = Callable[[Settings, asyncio.Event], Awaitable[None]]


def run_role(name: str, role: Role) -> None:
    """Run ``role(settings, stopping)`` to its end. The first SIGTERM or SIGINT sets ``stopping``, a second ends it. A
    role that set ``stopping`` itself takes the first signal for what it is doing already.

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
    """Let the garbage collector look less often. Imported objects stay anyway, and those of a batch are freed by
    their reference counts; looking for cycles after every few hundred new objects takes a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)


async def _supervise(role: Role, settings: Settings) -> None:
    stopping = asyncio.Event()
    main = asyncio.current_task()
    signals = itertools.count(1)

    def on_signal() -> None:
        # Counted, since a role may have set the event itself.
        if next(signals) > 1 and main is not None:
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
    """Touch ``file`` for as long as ``loop`` turns: ``aftercommit.runtime.liveness`` looks at its age."""
    file.touch()
    loop.call_later(BEAT_SECONDS, _beat, loop, file)
