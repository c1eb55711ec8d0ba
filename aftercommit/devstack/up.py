"""`make up`: everything in the foreground with merged logs, until Ctrl-C."""

import os
import time

from aftercommit.devstack.failure import DevstackError
from aftercommit.devstack.role_logs import Console
from aftercommit.devstack.stack import FOLDER, Stack
from aftercommit.devstack.stop_request import StopRequest

SLOW_START_SECONDS = 60


def up() -> int:
    """Runs until a signal asks it to stop; 0 after an orderly stop."""
    stop_request = StopRequest()
    console = Console()
    settings = {"LOG_FORMAT": os.environ.get("LOG_FORMAT", "console")}
    stack = Stack(FOLDER, settings=settings, say=console.say, sink=console.line)
    try:
        stack.start()
        _announce(stack, console, stop_request)
        while not stop_request.made:
            time.sleep(0.2)  # a signal's handler may only set a flag
        console.say("stopping (once more to hurry)")
    except DevstackError:
        if not stop_request.made:  # else the signal also ended a child of the start, which is no error
            raise
    finally:
        stack.stop(impatient=stop_request.repeated)
    return 0


def _announce(stack: Stack, console: Console, stop_request: StopRequest) -> None:
    """The URL, once it can be used."""
    started = time.monotonic()
    hinted = False
    while not stop_request.made and not stack.ready():
        time.sleep(0.2)  # between two looks: nobody calls when an HTTP server gets ready
        if not hinted and time.monotonic() - started > SLOW_START_SECONDS:
            console.say(f"not ready yet; {stack.url}/readyz says what is missing")
            hinted = True
    if not stop_request.made:
        console.say(f"ready: {stack.url} (documentation: {stack.url}/docs), Ctrl-C stops it")
