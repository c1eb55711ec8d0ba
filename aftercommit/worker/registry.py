"""Finds the handlers: those that every worker has, and those of the modules that WORKER_MODULES names."""

import importlib
import sys
import traceback
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aftercommit import Handler
from aftercommit.core import json_text
from aftercommit.core.settings import Settings
from aftercommit.handlers.echo import echo
from aftercommit.handlers.http_request import HttpRequests


class BadModule(Exception):
    """A module of WORKER_MODULES cannot be used. The process stops with this text."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """The handlers of this worker by type, and the modules that they came from."""

    by_type: dict[str, Handler]
    modules: tuple[str, ...]

    def options(self, *, max_retries: int, timeout_seconds: float) -> str:
        """JSON: the max_retries and timeout_seconds of each type, as this worker resolves them for tasks that give
        none. The arguments are the worker's settings, for handlers that have no value of their own."""
        return json_text.dump(
            {
                handler.type: {
                    "max_retries": max_retries if handler.max_retries is None else handler.max_retries,
                    "timeout_seconds": handler.timeout_seconds or timeout_seconds,
                }
                for handler in self.by_type.values()
            }
        )


@asynccontextmanager
async def opened_handlers(settings: Settings) -> AsyncIterator[Handlers]:
    """The handlers of a worker with these settings, until the end of the block. Raises BadModule."""
    http = HttpRequests(
        allow_private_addresses=settings.http_allow_private_addresses,
        max_response_bytes=settings.http_max_response_bytes,
    )
    try:
        yield load_handlers([echo, http.handler()], settings.worker_modules)
    finally:
        await http.close()


def load_handlers(shipped: Iterable[Handler], modules: Sequence[str]) -> Handlers:
    """Import ``modules`` and collect their handlers. Raises BadModule that names the module and what to do."""
    by_type = {handler.type: handler for handler in shipped}
    # As `python -m` and pytest do: a module beside the process's folder can be named.
    if "" not in sys.path:
        sys.path.insert(0, "")
    for name in modules:
        found = [value for value in vars(_import(name)).values() if isinstance(value, Handler)]
        if not found:
            raise BadModule(f"WORKER_MODULES: {name} has no handler: decorate one with @task, or drop the module")
        for handler in found:
            other = by_type.setdefault(handler.type, handler)
            if other is not handler:
                raise BadModule(f"WORKER_MODULES: {handler!r} and {other!r} are for one type: rename one")
    return Handlers(by_type, ("aftercommit.handlers", *modules))


def _import(name: str) -> object:
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever a user's module does at import
        raise BadModule(
            f"WORKER_MODULES: {name} cannot be imported: {type(error).__name__}: {error}{_place(error)}"
        ) from error


def _place(error: Exception) -> str:
    """The line of the user's code that raised, where the error's own text does not have it."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and "importlib" not in frame.filename
    ]
    if isinstance(error, SyntaxError) or not frames:
        return ""
    return f" ({frames[-1].filename}, line {frames[-1].lineno})"
