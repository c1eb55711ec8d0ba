"""The parts of the devstack that need no server."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aftercommit.devstack import processes
from aftercommit.devstack.failure import DevstackError
from aftercommit.devstack.ports import free_port, is_free
from aftercommit.devstack.roles import Role
from aftercommit.devstack.stack import hold
from aftercommit.devstack.supervisor import Supervisor


def sleeper(*words: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", *words])
    # Just after the exec its command line can still read as empty.
    assert processes.wait_until(lambda: "time.sleep" in processes.command_line(process.pid), timeout_seconds=30)
    return process


def test_free_port_keeps_the_preferred_one_when_it_is_free() -> None:
    port = free_port()
    assert is_free(port)
    assert free_port(port) == port
    assert free_port(port, taken=frozenset({port})) != port


def test_is_alive_when_the_marker_is_another_program_s() -> None:
    process = sleeper("marker-one")
    try:
        assert processes.is_alive(process.pid, "marker-one")
        assert not processes.is_alive(process.pid, "marker-two")
    finally:
        process.kill()
        process.wait()
    assert not processes.is_alive(process.pid, "marker-one")


def test_stop_recorded_leaves_a_process_alone_when_its_pid_was_reused(tmp_path: Path) -> None:
    process = sleeper("somebody-else")
    try:
        pid_file = tmp_path / "role.pid"
        pid_file.write_text(f"{process.pid}\n")
        assert not processes.stop_recorded(pid_file, "-m app.api.run", grace_seconds=1)
        assert process.poll() is None
        assert not pid_file.exists()
    finally:
        process.kill()
        process.wait()


def test_stop_recorded_ends_the_process_of_the_pid_file(tmp_path: Path) -> None:
    process = sleeper("our-own")
    reaper = threading.Thread(target=process.wait)
    reaper.start()
    pid_file = tmp_path / "role.pid"
    pid_file.write_text(f"{process.pid}\n")
    assert processes.stop_recorded(pid_file, "our-own")
    reaper.join(5)
    assert process.returncode == -signal.SIGTERM


def test_children_are_the_direct_ones() -> None:
    process = sleeper()
    try:
        assert process.pid in processes.children(os.getpid())
    finally:
        process.kill()
        process.wait()


def test_hold_refuses_when_another_process_has_the_folder(tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(DevstackError, match=f"process {os.getpid()}"):
        hold(tmp_path)
    hold(tmp_path).close()


def test_supervisor_starts_the_role_again_when_it_dies(tmp_path: Path) -> None:
    (tmp_path / "stand_in.py").write_text("import sys; print('hello'); sys.exit(3)")
    lines: list[str] = []
    twice = threading.Event()

    def sink(_name: str, line: str) -> None:
        lines.append(line)
        if lines.count("hello") == 2:
            twice.set()

    role = Role("stand-in", "stand_in")
    supervisor = Supervisor(role, environment=os.environ, checkout=tmp_path, folder=tmp_path, sink=sink)
    supervisor.start()
    assert twice.wait(20)
    supervisor.terminate()
    assert supervisor.wait(10)
    assert lines[:2] == ["hello", "died unexpectedly with exit code 3; starts again in 1 s"]
    assert not list((tmp_path / "run").iterdir())


def test_supervisor_does_not_start_the_role_again_when_it_was_asked_to_stop(tmp_path: Path) -> None:
    (tmp_path / "stand_in.py").write_text("import time; print('hello'); time.sleep(60)")
    lines: list[str] = []
    started = threading.Event()

    def sink(_name: str, line: str) -> None:
        lines.append(line)
        started.set()

    role = Role("stand-in", "stand_in")
    supervisor = Supervisor(role, environment=os.environ, checkout=tmp_path, folder=tmp_path, sink=sink)
    supervisor.start()
    assert started.wait(20)
    supervisor.terminate()
    assert supervisor.wait(10)
    assert lines == ["hello"]
