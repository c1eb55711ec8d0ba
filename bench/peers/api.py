"""``python -m bench.peers.api MODULE PORT``: an endpoint that enqueues in the request, as an application has it.

The peer's module has ``submit(sent_at)``, a coroutine function or one that blocks, which FastAPI runs in a thread, and
``connected()``, the context in which it may be called.
"""

import importlib
import inspect
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Task(BaseModel):
    """``sent_at``: the client's Unix time."""

    sent_at: float


def create_app(peer: ModuleType) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with peer.connected():
            yield

    app = FastAPI(lifespan=lifespan)
    if inspect.iscoroutinefunction(peer.submit):

        @app.post("/tasks", status_code=201)
        async def submit(task: Task) -> None:
            await peer.submit(task.sent_at)
    else:

        @app.post("/tasks", status_code=201)
        def submit_in_thread(task: Task) -> None:
            peer.submit(task.sent_at)

    return app


if __name__ == "__main__":
    module, port = sys.argv[1:]
    # Without a line for each request, as our API.
    uvicorn.run(create_app(importlib.import_module(module)), port=int(port), access_log=False, log_level="warning")
