"""``aftercommit worker --reload``: a worker that starts anew when its code changes."""

import sys
import time
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from aftercommit.core.settings import load_settings
from aftercommit.devstack.roles import worker
from aftercommit.devstack.sources import SourceWatcher
from aftercommit.devstack.stop_request import StopRequest
from aftercommit.devstack.supervisor import Supervisor

STOP_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.05


def work() -> int:
    """Until a signal asks it to stop; the tasks that run at a change, or then, have a second to end."""
    modules = list(load_settings().worker_modules)
    stop_request = StopRequest()
    supervisor = Supervisor(worker(lambda: modules), folder=Path.cwd(), sink=_print)
    folders = module_folders(modules)

    def reload(file: Path) -> None:
        _print("", f"{file} changed: the worker starts anew")
        supervisor.restart()

    watcher = SourceWatcher(folders, reload)
    supervisor.start()
    supervisor.run({"FORCE_COLOR": "1"} if sys.stderr.isatty() else {})
    watcher.start()
    while not stop_request.made:
        time.sleep(LOOK_SECONDS)  # a signal's handler may only set a flag
    watcher.stop()
    supervisor.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    while not supervisor.wait(LOOK_SECONDS):
        if stop_request.repeated() or time.monotonic() > deadline:
            supervisor.kill()
            return 1
    return 0


def module_folders(modules: Iterable[str]) -> list[Path]:
    """The present folder where it holds a module or none can be found, and the folders of packages elsewhere."""
    here = Path.cwd()
    folders = {here}
    for name in modules:
        top = name.partition(".")[0]
        if any((here / each).exists() for each in (top, f"{top}.py")):
            continue
        spec = find_spec(top)
        folders |= {Path(each) for each in (spec.submodule_search_locations or [] if spec is not None else [])}
    return sorted(folders)


def _print(_: str, line: str) -> None:
    print(line, file=sys.stderr, flush=True)
