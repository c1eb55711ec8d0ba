"""Runs an attempt in a process of its own, which can be killed.

This is for handlers that ask for it, and for tasks that may be what took a worker down before: a task that kills its
process does not take others down again.

The processes are forked from a small server process that has the handlers' modules loaded (multiprocessing's
``forkserver``): forking the worker itself, with its threads and connections, would not be safe.
"""

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Final

from aftercommit.core.outcomes import Outcome
from aftercommit.core.settings import Settings
from aftercommit.db.claims import ClaimedTask
from aftercommit.db.progress import Progress
from aftercommit.telemetry.logs import configure_logs
from aftercommit.worker.places import Places
from aftercommit.worker.progress_sender import ProgressSender
from aftercommit.worker.start_times import StartTimes

GRACE_SECONDS: Final = 5.0
"""The process ends its attempt by itself at the timeout; one that still runs so much later is killed."""

MOST_PER_CORE: Final = 4
"""Processes at a time for each core. After a crash every task that ran beside the culprit wants one, and each costs
memory."""

TellProgress = Callable[[Progress], None]
Run = Callable[[Settings, ClaimedTask, TellProgress], Awaitable[tuple[Outcome, bool]]]


class ProcessDied(Exception):
    """The attempt's process ended without an outcome."""


class ProcessStuck(Exception):
    """The attempt's process did not end at its timeout and was killed."""


class ProcessRunner:
    """``run_attempt`` runs in the new process; it must be importable there, like everything it needs.

    Whoever runs an attempt holds one of ``places`` meanwhile.
    """

    def __init__(self, settings: Settings, run_attempt: Run, *, start_times: StartTimes) -> None:
        self._settings = settings
        self._run_attempt = run_attempt
        self._context = multiprocessing.get_context("forkserver")
        # The worker's main module too: multiprocessing runs it again in each process, with all that it imports.
        preload = ["aftercommit.worker.run", run_attempt.__module__, *settings.worker_modules]
        self._context.set_forkserver_preload(preload)
        self.places = Places(MOST_PER_CORE * (os.cpu_count() or 1), kind="process", start_times=start_times)

    async def run(
        self, task: ClaimedTask, *, timeout_seconds: float, tell_progress: TellProgress
    ) -> tuple[Outcome, bool]:
        """The outcome, and whether the attempt's own transaction recorded it.

        Raises ProcessDied or ProcessStuck. Cancelled, it kills the process.
        """
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, self._settings, task, self._run_attempt), daemon=True
        )
        starting = asyncio.ensure_future(asyncio.to_thread(process.start))
        try:
            await asyncio.shield(starting)
            theirs.close()
            async with asyncio.timeout(timeout_seconds + GRACE_SECONDS):
                while isinstance(received := await _receive(ours), Progress):
                    tell_progress(received)
        except EOFError:
            await asyncio.to_thread(process.join, 1)
            raise ProcessDied(f"the process of this attempt {_describe_exit(process.exitcode)}") from None
        except TimeoutError:
            raise ProcessStuck(f"killed {GRACE_SECONDS:g} s after its timeout") from None
        else:
            outcome: tuple[Outcome, bool] = received
            return outcome
        finally:
            # Closing our end of the pipe tells the process to end; most have ended already.
            ours.close()
            if not starting.done():  # cancelled meanwhile: what does not exist yet cannot be killed
                await asyncio.wait([starting])
            if process.pid is not None:
                process.kill()
                await asyncio.to_thread(process.join, 1)


async def _receive(connection: Connection) -> Any:
    """The next object from the other side. Raises EOFError when that is gone."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection.fileno(), readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection.fileno())
    return connection.recv()


def _describe_exit(code: int | None) -> str:
    if code is None:
        return "closed its pipe"
    if code >= 0:
        return f"exited with status {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
    return f"was killed by {name}"


def _serve(connection: Connection, settings: Settings, task: ClaimedTask, run_attempt: Run) -> None:
    """The body of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, args=(connection,), daemon=True).start()
    configure_logs(form=settings.log_format, level=settings.log_level)
    progress = ProgressSender(connection)
    outcome = asyncio.run(_attempt(settings, task, run_attempt, progress.tell))
    progress.close()
    connection.send(outcome)
    # A handler's threads would keep the process alive.
    os._exit(0)


async def _attempt(
    settings: Settings, task: ClaimedTask, run_attempt: Run, tell_progress: TellProgress
) -> tuple[Outcome, bool]:
    return await run_attempt(settings, task, tell_progress)


def _die_with_parent(connection: Connection) -> None:
    with suppress(EOFError, OSError):
        connection.recv()
    os._exit(1)
