"""The parts of the devstack that need no server."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aftercommit.devstack import processes
from aftercommit.devstack.failure import DevstackError
from aftercommit.devstack.ports import free_port, is_free
from aftercommit.devstack.rabbitmq import RabbitServer
from aftercommit.devstack.roles import Role, worker
from aftercommit.devstack.stack import hold
from aftercommit.devstack.supervisor import Supervisor


@pytest.mark.parametrize("name", ["Ann's project", 'the "project"'])
def test_rabbitmq_refuses_a_folder_in_which_it_would_hang(tmp_path: Path, name: str) -> None:
    with pytest.raises(DevstackError, match="quotation mark"):
        RabbitServer(tmp_path / name).start()
    assert list(tmp_path.iterdir()) == []


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


def test_hold_names_the_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DevstackError, match=re.escape(str(tmp_path / "file" / "data"))):
        hold(tmp_path / "file" / "data")


class Log:
    """What a role said, and a wait for how often it said something."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._said = threading.Condition()

    def sink(self, _name: str, line: str) -> None:
        with self._said:
            self.lines.append(line)
            self._said.notify_all()

    def until(self, line: str, times: int = 1) -> None:
        with self._said:
            assert self._said.wait_for(lambda: self.lines.count(line) == times, 20), self.lines


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def start(tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Supervisor]]:
    """Starts a role with this body; it is stopped at the end."""
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parents[2]}:{tmp_path}")
    started: list[Supervisor] = []

    def start(body: str, **options: Any) -> Supervisor:
        (tmp_path / "stand_in.py").write_text(f"import os, sys, time\ndef main():\n  {body}\n")
        supervisor = Supervisor(Role("stand-in", "stand_in", **options), folder=tmp_path, sink=log.sink)
        started.append(supervisor)
        supervisor.start()
        return supervisor

    yield start
    for supervisor in started:
        supervisor.terminate()
        assert supervisor.wait(20)


def test_supervisor_starts_the_role_again_when_it_dies(start: Callable[..., Supervisor], log: Log) -> None:
    start("print('hello'); sys.exit(3)").run({})
    log.until("hello", times=2)
    assert log.lines[:2] == ["hello", "died with exit code 3; starts again in 1 s"]


def test_supervisor_does_not_start_the_role_again_when_it_was_asked_to_stop(
    start: Callable[..., Supervisor], log: Log
) -> None:
    supervisor = start("print('hello'); time.sleep(60)")
    supervisor.run({})
    log.until("hello")
    supervisor.terminate()
    assert supervisor.wait(20)
    assert log.lines == ["hello"]


def test_role_gets_the_environment_that_it_runs_with(start: Callable[..., Supervisor], log: Log) -> None:
    supervisor = start("print(os.environ['GIVEN'], os.environ['OWN'])", settings=lambda: {"OWN": "b"})
    supervisor.run({"GIVEN": "a"})
    log.until("a b")


def test_worker_orders_queues_as_in_docker_compose() -> None:
    composed = (Path(__file__).parents[2] / "docker-compose.yml").read_text()
    service = composed[composed.index("\n  worker:\n") :].partition("\nvolumes:")[0]
    assert "WORKER_QUEUES" not in service
    assert "WORKER_QUEUES" not in worker(list).settings()


def test_role_that_never_ran_stops(start: Callable[..., Supervisor], log: Log) -> None:
    supervisor = start("print('hello')")
    supervisor.terminate()
    assert supervisor.wait(20)
    assert log.lines == []


def test_role_with_code_that_cannot_be_used_waits_for_the_next_change(
    start: Callable[..., Supervisor], log: Log, tmp_path: Path
) -> None:
    supervisor = start("print('bad'); sys.exit(2)", reloads=True)
    supervisor.run({})
    log.until("waits for the next change")
    (tmp_path / "stand_in.py").write_text("import time\ndef main():\n  print('mended'); time.sleep(60)\n")
    supervisor.restart()
    log.until("mended")
    assert log.lines == ["bad", "waits for the next change", "mended"]


def test_role_ends_when_its_parent_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parents[2]}:{tmp_path}")
    (tmp_path / "stand_in.py").write_text("import time\ndef main():\n  print('hello', flush=True); time.sleep(60)\n")
    parent = (
        "import time; from pathlib import Path; from aftercommit.devstack.role_process import RoleProcess\n"
        "role = RoleProcess('stand_in', folder=Path.cwd()); role.run({}); role.output.readline()\n"
        "print(role.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert processes.is_alive(pid, "stand_in")
        process.kill()
    assert processes.wait_until(lambda: not processes.is_alive(pid, "stand_in"), 20)
