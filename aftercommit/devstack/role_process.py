"""Both ends of a role's process, which gets ready before its servers do.

`python -m aftercommit.devstack.role_process FD MODULE` imports MODULE, which takes most of a role's start. It then
waits for one line of JSON on the pipe FD, its environment, and calls `MODULE.main()`. The pipe stays open while the
parent lives. When it ends, the process sends itself SIGTERM: a parent that was killed leaves no role behind.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO

_PACKAGES = Path(__file__).resolve().parents[2]


class RoleProcess:
    """The parent's end. The process leads a session of its own, so Ctrl-C reaches only the parent."""

    def __init__(self, module: str, *, folder: Path) -> None:
        """Starts the process in `folder`. Its output is on `output`, lines of text."""
        theirs, self._ours = os.pipe()
        # Where the user's folder is not also ours, its modules must not hide those that a role imports.
        safe = [] if folder.resolve() == _PACKAGES else ["-P"]
        try:
            self._process = subprocess.Popen(
                [sys.executable, *safe, "-m", "aftercommit.devstack.role_process", str(theirs), module],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                cwd=folder,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                pass_fds=[theirs],
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        assert self._process.stdout is not None
        self.output: IO[str] = self._process.stdout

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, environment: Mapping[str, str]) -> None:
        """Lets it go on, with `environment` added to its own. Harmless when it has ended."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._ours, json.dumps(dict(environment)).encode() + b"\n")

    def wait(self) -> int:
        """Its exit code. What it left behind in its session is killed: that would also keep `output` open."""
        code = self._process.wait()
        self.kill()
        os.close(self._ours)
        return code

    def discard(self) -> None:
        """Kills it unless it has ended."""
        if self._process.poll() is None:
            self.kill()
            self.wait()

    def terminate(self) -> None:
        """Asks it to drain and exit; returns at once."""
        if self._process.poll() is None:
            self._process.terminate()

    def kill(self) -> None:
        """The role and the processes that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def main() -> None:
    """The child's end."""
    pipe, name = os.fdopen(int(sys.argv[1])), sys.argv[2]
    module = importlib.import_module(name)
    line = pipe.readline()
    if not line:
        return
    os.environ.update(json.loads(line))
    threading.Thread(target=_stop_with_parent, args=(pipe,), daemon=True).start()
    module.main()


def _stop_with_parent(pipe: IO[str]) -> None:
    pipe.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
