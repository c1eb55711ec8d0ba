"""What a killed test run leaves behind is removed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aftercommit.devstack.processes import command_line, wait_until

RUN = """
import subprocess, sys
from tests.leftovers import without_leftovers
with without_leftovers("devstack", sys.argv[1]):
    role = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
    print(role.pid, flush=True)
    role.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes by /proc")
def test_processes_and_data_are_removed_when_the_run_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "servers"
    folder.mkdir()
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, folder], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    role = int(run.stdout.readline())
    run.send_signal(signal.SIGKILL)
    run.communicate()
    assert wait_until(lambda: not command_line(role) and not folder.exists(), 60)
