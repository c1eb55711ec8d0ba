"""The console script's flags, and what it says when something cannot be used."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aftercommit import __version__
from aftercommit.cli import main as cli
from aftercommit.cli.main import COMMANDS, LOG_FLAGS, Command, main
from aftercommit.cli.reload import module_folders
from aftercommit.core.settings import Settings, load_settings
from aftercommit.server.migrate import migrations_folder


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """A flag is put into the environment: it is as it was after each test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that a worker was started with."""
    found: list[Settings] = []

    def run(_: argparse.Namespace) -> int:
        found.append(load_settings())
        return 0

    worker = COMMANDS["worker"]
    monkeypatch.setitem(
        COMMANDS, "worker", Command(worker.help, worker.extra, run, flags=worker.flags, switches=worker.switches)
    )
    return found


def test_flag_stands_over_the_environment(started: list[Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_CONCURRENCY", "3")
    monkeypatch.setenv("WORKER_PREFETCH", "7")
    assert main(["worker", "--concurrency", "9", "--modules", "shop,app.tasks", "--queues", "tasks.low"]) == 0
    settings = started[0]
    assert settings.worker_concurrency == 9
    assert settings.worker_prefetch == 7
    assert settings.worker_modules == ("shop", "app.tasks")
    assert [str(work_queue) for work_queue, _ in settings.worker_queues] == ["tasks.low"]


def test_bad_flag_is_refused_in_the_words_of_its_setting(
    started: list[Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["worker", "--concurrency", "many"])
    assert ended.value.code == 2
    assert started == []
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("WORKER_CONCURRENCY: ")
    assert "'many'" in lines[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_command_tells_what_to_install_when_its_extra_is_missing(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda _: None)
    arguments = {"outbox": ["status"]}.get(name, [])
    assert main([name, *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"pip install 'aftercommit[{COMMANDS[name].extra}]'" in said


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_the_setting_of_each_flag(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for flag in (*COMMANDS[name].flags, *LOG_FLAGS):
        assert flag.name in shown
        assert flag.setting.lower() in Settings.model_fields
        assert flag.setting in shown


def test_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"aftercommit {__version__}\n"


def test_migrations_are_found_in_a_checkout() -> None:
    assert (migrations_folder() / "env.py").exists()


def test_reload_watches_this_folder_and_the_packages_of_modules_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project" / "app").mkdir(parents=True)
    (tmp_path / "elsewhere" / "shop").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    found = module_folders(["app.tasks", "shop.orders", "no_such_module"])
    assert found == sorted([tmp_path / "project", tmp_path / "elsewhere" / "shop"])


@pytest.mark.parametrize(
    ("arguments", "given"), [(["dev"], None), (["dev", "--port", "8000"], 8000), (["dev", "--port", "9000"], 9000)]
)
def test_dev_keeps_to_the_port_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], given: int | None
) -> None:
    ports: list[int | None] = []

    def dev(_: Path, *, api_port: int | None, **__: object) -> int:
        ports.append(api_port)
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aftercommit.cli.dev.dev", dev)
    assert main(arguments) == 0
    assert ports == [given]
