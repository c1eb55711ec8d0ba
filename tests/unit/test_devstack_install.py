"""How missing servers are installed, with stand-ins for the package tools."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from aftercommit.devstack import apt, install
from aftercommit.devstack.apt import apt_install, half_installed
from aftercommit.devstack.failure import DevstackError
from aftercommit.devstack.install import Package, install_missing
from aftercommit.devstack.package_runner import PackageRunner
from aftercommit.devstack.processes import wait_until
from aftercommit.devstack.server_user import server_account
from aftercommit.devstack.servers import Servers

MakeTool = Callable[[str, str], None]


@pytest.fixture
def make_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeTool:
    """Makes a program of that name the first on PATH; it notes its arguments in ``calls`` and then runs a script."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def make(name: str, script: str) -> None:
        program = programs / name
        program.write_text(f'#!/bin/sh\ncd {tmp_path}\necho {name} "$@" >> calls\n{script}\n')
        program.chmod(0o755)

    make("dpkg", "")
    return make


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def packages(folder: Path) -> tuple[Package, Package]:
    """Two that are there once their files are."""
    return (
        Package("One 14", apt="one", apt_parts=("one",), brew="one@17", find=lambda: (folder / "one").exists() or None),
        Package("Two 3", apt="two", apt_parts=("two",), brew="two", find=lambda: (folder / "two").exists() or None),
    )


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "policy-rc.d"
    monkeypatch.setattr(install, "POLICY", str(path))
    return path


def test_everything_missing_is_installed_by_one_call(
    tmp_path: Path, make_tool: MakeTool, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tool("apt-get", '[ "$2" = update ] || touch one two')
    monkeypatch.setattr(install, "sudo_prefix", lambda: ())
    install_missing(packages(tmp_path))
    installs = [call for call in calls(tmp_path) if "apt-get" in call]
    assert installs == ["apt-get -q update", "apt-get -q install -y --no-install-recommends one two"]


def test_nothing_is_called_when_nothing_is_missing(tmp_path: Path, make_tool: MakeTool) -> None:
    make_tool("apt-get", "")
    (tmp_path / "one").touch()
    (tmp_path / "two").touch()
    install_missing(packages(tmp_path))
    assert not [call for call in calls(tmp_path) if "apt-get" in call]


def test_homebrew_installs_only_what_is_missing(
    tmp_path: Path, make_tool: MakeTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tool("brew", "touch two")
    found = install.shutil.which  # type: ignore[attr-defined]  # the module's own import
    monkeypatch.setattr("shutil.which", lambda name: None if name == "apt-get" else found(name))
    (tmp_path / "one").touch()
    install_missing(packages(tmp_path))
    assert "brew install two" in calls(tmp_path)


def test_one_message_tells_what_to_install_when_the_user_may_not(
    tmp_path: Path, make_tool: MakeTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tool("apt-get", "")
    monkeypatch.setattr(install, "sudo_prefix", lambda: None)
    with pytest.raises(DevstackError, match=r"One 14 and Two 3.*sudo apt-get install one two"):
        install_missing(packages(tmp_path))


def test_nothing_is_made_when_the_installation_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise DevstackError("no")

    monkeypatch.setattr("aftercommit.devstack.servers.install_missing", fail)
    servers = Servers(tmp_path)
    with pytest.raises(DevstackError, match="no"):
        servers.start()
    servers.stop()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_servers_user_is_looked_up_after_the_installation_and_stays_that_of_the_data(tmp_path: Path) -> None:
    asked_too_early = server_account(tmp_path / "data")
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, asked_too_early.uid + 1, asked_too_early.gid + 1)
    assert server_account(data).uid == asked_too_early.uid + 1


@pytest.mark.parametrize("existing", [True, False])
def test_services_do_not_start_meanwhile_and_a_policy_of_the_machine_stays(
    tmp_path: Path, make_tool: MakeTool, existing: bool
) -> None:
    policy = tmp_path / "policy-rc.d"
    if existing:
        policy.write_text("#!/bin/sh\nexit 7\n")
        policy.chmod(0o755)
    make_tool("apt-get", f"{policy}; echo $? > policy-said")
    with PackageRunner() as runner:
        assert apt_install(runner, "some-server", policy=str(policy))
    assert int((tmp_path / "policy-said").read_text()) == (7 if existing else 101)
    assert policy.exists() is existing


def test_policy_of_a_killed_installation_is_void_after_an_hour_and_removed_by_the_next(
    tmp_path: Path, make_tool: MakeTool
) -> None:
    policy = tmp_path / "policy-rc.d"
    make_tool("apt-get", f"cp -p {policy} left-behind")
    with PackageRunner() as runner:
        apt_install(runner, "some-server", policy=str(policy))
        left_behind = tmp_path / "left-behind"
        assert subprocess.run([left_behind], check=False).returncode == 101
        os.utime(left_behind, (0, 0))
        assert subprocess.run([left_behind], check=False).returncode == 0
        apt_install(runner, "some-server", policy=str(left_behind))
    assert not left_behind.exists()


@pytest.mark.parametrize(
    "refusal",
    [
        "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 9 (unattended-upgr)",
        "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 9 (unattended-upgr)",
    ],
)
def test_lock_of_another_package_tool_is_waited_for(
    tmp_path: Path, make_tool: MakeTool, refusal: str, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "_RETRY_SECONDS", 0.01)
    make_tool("apt-get", f'[ $(grep -c "$2" calls) -gt 3 ] || {{ echo "{refusal}" >&2; exit 100; }}')
    with PackageRunner() as runner:
        assert apt_install(runner, "some-server", policy=str(policy))


def test_interrupted_dpkg_is_repaired_first(tmp_path: Path, make_tool: MakeTool, policy: Path) -> None:
    make_tool("dpkg", "touch repaired")
    told = "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem."
    make_tool("apt-get", f'[ "$2" = update ] || [ -e repaired ] || {{ echo "{told}"; exit 100; }}')
    with PackageRunner() as runner:
        assert apt_install(runner, "some-server", policy=str(policy))
    assert "dpkg --configure -a" in calls(tmp_path)


def test_half_installed_package_counts_as_missing(tmp_path: Path, make_tool: MakeTool) -> None:
    make_tool(
        "dpkg", "echo 'The following packages have been unpacked but not yet configured.'; echo ' erlang-base  x'"
    )
    assert half_installed(("rabbitmq", "erlang"))
    assert not half_installed(("postgresql",))


INTERRUPTED = """
from aftercommit.devstack.apt import apt_install
from aftercommit.devstack.package_runner import PackageRunner
import sys
try:
    with PackageRunner() as runner:
        apt_install(runner, "some-server", policy=sys.argv[1])
finally:
    print("came through")
"""


@pytest.mark.parametrize(
    ("number", "interrupts"),
    [
        (signal.SIGINT, signal.SIG_DFL),
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGTERM, signal.SIG_IGN),  # as a shell starts what runs in its background
    ],
)
def test_interruption_lets_the_package_tool_end_and_cleans_up(
    tmp_path: Path, make_tool: MakeTool, number: signal.Signals, interrupts: signal.Handlers
) -> None:
    policy = tmp_path / "policy-rc.d"
    # Like apt-get while dpkg runs, it ends its work first.
    make_tool("apt-get", 'trap "touch told" INT; touch begun; until [ -e told ]; do sleep 0.05; done; touch ended')
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, policy],
        cwd=Path(__file__).parents[2],
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, interrupts),  # noqa: PLW1509  # no thread of ours holds a lock
    )
    assert wait_until((tmp_path / "begun").exists, 30)
    os.killpg(process.pid, number)
    process.wait(30)
    assert process.returncode in {1, 130, -number}
    assert (tmp_path / "ended").exists()
    assert not policy.exists()
    assert "apt-get -q install" not in "\n".join(calls(tmp_path))


def test_package_tool_goes_on_when_we_are_killed(tmp_path: Path, make_tool: MakeTool) -> None:
    make_tool("apt-get", "touch begun; until [ -e go-on ]; do sleep 0.05; done; echo words; touch ended")
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, tmp_path / "policy"], cwd=Path(__file__).parents[2], start_new_session=True
    )
    assert wait_until((tmp_path / "begun").exists, 30)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
    (tmp_path / "go-on").touch()
    assert wait_until((tmp_path / "ended").exists, 30)


def test_former_handlers_get_the_interruption(tmp_path: Path, make_tool: MakeTool) -> None:
    received = threading.Event()
    former = signal.signal(signal.SIGTERM, lambda *_: received.set())
    try:
        with PackageRunner() as runner:
            signal.raise_signal(signal.SIGTERM)
            assert not received.is_set()
            with pytest.raises(DevstackError, match="interrupted"):
                runner.run("true")
        assert received.is_set()
    finally:
        signal.signal(signal.SIGTERM, former)
