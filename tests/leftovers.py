"""Ends what a test run leaves behind, however the run ends: in order, interrupted, or killed.

``without_leftovers`` starts this module as a process of its own. It waits until the run closes the pipe between them,
by its end at the latest, and then removes servers, role processes and data that are still there.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aftercommit.devstack import processes
from aftercommit.devstack.server_user import fallback_folder
from aftercommit.devstack.servers import Servers
from tests.integration.containers import remove_containers

MARK = "AFTERCOMMIT_TEST_FOLDER"
"""In the environment of all processes that the run starts meanwhile: whose they are."""


@contextmanager
def without_leftovers(kind: str, name: str) -> Iterator[None]:
    """``devstack`` and the folder of private servers, or ``containers`` and the pid that they are labelled with."""
    remover = subprocess.Popen(
        [sys.executable, "-m", "tests.leftovers", kind, name],
        stdin=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
        start_new_session=True,  # Ctrl-C is not meant for it
    )
    outer = os.environ.get(MARK, "")
    os.environ[MARK] = name
    try:
        yield
    finally:
        os.environ[MARK] = outer
        remover.communicate()


def remove(kind: str, name: str) -> None:
    if kind == "containers":
        remove_containers(name)
    else:
        folder = Path(name).resolve()
        Servers(folder).stop()
        shutil.rmtree(fallback_folder(folder / "postgres"), ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
    for pid in _marked(name):
        processes.send(pid, signal.SIGKILL)


def _marked(name: str) -> Iterator[int]:
    """Where there is no /proc, none."""
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it ended, or is another user's
            if f"{MARK}={name}\0".encode() in environment.read_bytes():
                yield int(environment.parent.name)


if __name__ == "__main__":
    sys.stdin.read()
    remove(*sys.argv[1:])
