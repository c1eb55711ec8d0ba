"""Tells whether the role in this container lives. ``python -m app.health`` asks it for HEALTHCHECK and Kubernetes.

Without an argument it looks at the age of HEALTH_FILE, which a role touches from its event loop: a loop that a
handler blocks, or a process that hangs, stops touching it. With a URL it asks there instead. It runs every few
seconds, so it imports little and no settings.
"""

import os
import sys
import time
from typing import Final

BEAT_SECONDS: Final = 2.0
OLDEST_SECONDS: Final = 15.0
ASK_SECONDS: Final = 4.0


def find_flaw(arguments: list[str]) -> str | None:
    """What is wrong, or None."""
    if arguments:
        return _ask(arguments[0])
    file = os.environ.get("HEALTH_FILE")
    return _check_age(file) if file else "HEALTH_FILE is not set: give the role and this check the same path"


def _check_age(file: str) -> str | None:
    try:
        age = time.time() - os.stat(file).st_mtime
    except OSError as error:
        return f"no sign of life yet: {error}"
    return None if age <= OLDEST_SECONDS else f"no sign of life for {age:.0f} s: something blocks the event loop"


def _ask(url: str) -> str | None:
    from urllib.request import ProxyHandler, build_opener  # noqa: PLC0415  # costs more than all the rest

    try:
        build_opener(ProxyHandler({})).open(url, timeout=ASK_SECONDS).close()
    except (OSError, ValueError) as error:  # an answer of 400 or above is an OSError too
        return f"{url}: {error}"
    return None


def main(arguments: list[str]) -> int:
    """The exit status; what is wrong goes to stderr."""
    if (flaw := find_flaw(arguments)) is None:
        return 0
    print(flaw, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
