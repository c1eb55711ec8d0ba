"""The threads that sync handlers run in: as many as the worker has slots."""

import asyncio
import contextvars
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any


class ThreadsExhausted(Exception):
    """This process cannot start another thread: something leaks them."""


class HandlerThreads:
    """A thread cannot be killed: a call that has begun goes on after its attempt ended, and keeps its thread.

    When the process can start no more threads, ``exhausted`` is set: only a new process helps. Without ``exhausted``
    that is an error of the attempt.
    """

    def __init__(self, count: int, *, exhausted: asyncio.Event | None = None) -> None:
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="handler")
        self._exhausted = exhausted

    @contextmanager
    def call(self, function: Callable[..., Any], arguments: dict[str, Any]) -> Iterator[asyncio.Future[Any]]:
        """Call ``function`` in a thread. Yields a future that is done when the thread is free again; shield it.

        A call that has not begun at the end of the block never begins. Raises ThreadsExhausted.
        """
        call = functools.partial(contextvars.copy_context().run, function, **arguments)
        try:
            queued = self._threads.submit(call)
        except RuntimeError as error:
            # The pool has the call in its queue even so, from which no thread may take it later.
            self.close()
            if self._exhausted is None:
                raise
            self._exhausted.set()
            raise ThreadsExhausted(f"the worker cannot start a thread and stops: {error}") from error
        try:
            yield asyncio.wrap_future(queued)
        finally:
            queued.cancel()

    def close(self) -> None:
        """Take no more calls. Those under way go on, and keep their threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
