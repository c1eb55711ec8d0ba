"""`aftercommit dev`: everything in the foreground with merged logs and reload, until Ctrl-C."""

import os
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

from aftercommit.devstack.failure import DevstackError
from aftercommit.devstack.role_logs import Console
from aftercommit.devstack.sources import SourceWatcher, handler_modules
from aftercommit.devstack.stack import Project, Stack
from aftercommit.devstack.stop_request import StopRequest

LOOK_SECONDS = 0.05
SLOW_START_SECONDS = 60

FIRST_HANDLER = """\
from aftercommit import task

@task("hello")
async def hello(name: str) -> str:
    return f"Hello, {name}!"
"""


def dev(folder: Path, *, modules: Sequence[str], api_port: int | None, reload: bool) -> int:
    """Runs until a signal asks it to stop; 0 after an orderly stop. Without `modules`, those of `folder` are found."""
    started = time.monotonic()
    stop_request = StopRequest()
    console = Console()
    project = Project(
        folder=folder,
        settings=_settings(),
        modules=lambda: list(modules) or handler_modules(folder),
        api_port=api_port,
    )
    stack = Stack(project, sink=console.line)
    watcher = SourceWatcher([folder], lambda file: _reload(stack, console, file.relative_to(folder)))
    try:
        console.say(f"PostgreSQL and RabbitMQ start, with their data in {stack.data}")
        stack.start()
        if _wait_until_ready(stack, console, stop_request):
            console.block(_announcement(stack, project, time.monotonic() - started))
            if reload:
                watcher.start()
        while not stop_request.made:
            time.sleep(LOOK_SECONDS)  # a signal's handler may only set a flag
        console.say("stopping (once more to hurry)")
    except DevstackError:
        if not stop_request.made:  # else the signal also ended a child of the start, which is no error
            raise
    finally:
        watcher.stop()
        stack.stop(impatient=stop_request.repeated)
    console.say("stopped")
    return 0


def _settings() -> dict[str, str]:
    """What reads well in a terminal, where the environment does not say otherwise."""
    settings = {"LOG_FORMAT": "console", "LOG_SUMMARY_SECONDS": "3600"}
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        settings["FORCE_COLOR"] = "1"
    return {name: value for name, value in settings.items() if name not in os.environ}


def _reload(stack: Stack, console: Console, file: Path) -> None:
    console.say(f"{file} changed: the worker starts anew")
    stack.reload()


def _wait_until_ready(stack: Stack, console: Console, stop_request: StopRequest) -> bool:
    """False when a stop was asked for meanwhile."""
    started = time.monotonic()
    hinted = False
    while not stop_request.made:
        if stack.ready():
            return True
        time.sleep(LOOK_SECONDS)  # between two looks: nobody calls when an HTTP server gets ready
        if not hinted and time.monotonic() - started > SLOW_START_SECONDS:
            console.say(f"not ready yet; {stack.url}/readyz says what is missing")
            hinted = True
    return False


def _announcement(stack: Stack, project: Project, seconds: float) -> str:
    modules = project.modules()
    body = '{"type": "echo", "payload": {"hello": "world"}}'
    lines = [
        f"Aftercommit is ready after {seconds:.1f} s",
        f"  API        {stack.url}",
        f"  docs       {stack.url}/docs",
        f"  database   {stack.servers.postgres.url}",
        f"  handlers   {', '.join(modules) or 'none found in this folder, only echo and http.request'}",
        f"  first task curl {stack.url}/v1/tasks --json '{body}'",
        f"  stop       Ctrl-C; the data stay in {stack.data.name}/",
    ]
    if not modules:
        handler = textwrap.indent(FIRST_HANDLER, "    ")
        lines += ["", "Save a handler of your own as tasks.py, and the worker takes it up:", "", handler.rstrip()]
    return "\n".join(lines)
