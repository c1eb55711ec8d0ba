"""The root of the API's process."""

import asyncio
import contextlib

import uvicorn

from aftercommit.core.settings import Settings
from aftercommit.runtime.role import run_role
from aftercommit.server.api.app import create_app


class Server(uvicorn.Server):
    """uvicorn, with the signals left to ``run_role``."""

    def capture_signals(self) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]  # uvicorn types a generator
        return contextlib.nullcontext()


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Serve until ``stopping``, then finish the requests under way for up to ``api_shutdown_seconds``."""
    app = create_app(settings)
    server = Server(
        uvicorn.Config(
            app,
            host=settings.api_host,
            port=settings.api_port,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=settings.api_shutdown_seconds,
        )
    )
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.serve())
        stop = group.create_task(stopping.wait())
        await asyncio.wait([serving, stop], return_when=asyncio.FIRST_COMPLETED)
        if stop.done():
            # Requests that wait for a task would outlast the grace.
            app.state.dependencies.waiters.release()
        server.should_exit = True
        stop.cancel()


def main() -> None:
    """Run the role until a signal stops it; see ``run_role`` for the exit status."""
    run_role("api", serve)
