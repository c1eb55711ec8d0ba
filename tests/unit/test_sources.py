"""Which Python files of a project are looked at, and what of them."""

import threading
from pathlib import Path

import pytest

from aftercommit.devstack.sources import SourceWatcher, handler_modules, python_files

HANDLER = "from aftercommit import Context, task\n\n@task('a')\ndef a() -> None: ...\n"


def write(folder: Path, name: str, text: str = HANDLER) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("tasks.py", "tasks"),
        ("app/tasks.py", "app.tasks"),
        ("app/tasks/__init__.py", "app.tasks"),
        ("src/shop/orders.py", "shop.orders"),
        ("tests/handlers.py", None),
        ("app/test_tasks.py", None),
        ("conftest.py", None),
        ("not-a-module.py", None),
        (".hidden/tasks.py", None),
        ("node_modules/x/tasks.py", None),
        ("venv/lib/python3.13/site-packages/other/tasks.py", None),
    ],
)
def test_handler_modules_are_named_as_python_imports_them(tmp_path: Path, file: str, module: str | None) -> None:
    write(tmp_path, file)
    assert handler_modules(tmp_path) == ([module] if module else [])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import aftercommit\n@aftercommit.task('a')\ndef a(): ...\n", True),
        ("from aftercommit import task\n@task('a')\ndef a(:\n", True),
        ("from celery import task\n@task('a')\ndef a(): ...\n", False),
        ("from aftercommit import Context\n", False),
        ("# from aftercommit import task\n# @task('a')\n", False),
    ],
)
def test_handler_module_is_one_that_decorates_with_our_task(tmp_path: Path, text: str, found: bool) -> None:
    write(tmp_path, "tasks.py", text)
    assert handler_modules(tmp_path) == (["tasks"] if found else [])


def test_files_of_a_virtual_environment_are_left_aside(tmp_path: Path) -> None:
    write(tmp_path, "env/pyvenv.cfg", "")
    write(tmp_path, "env/tasks.py")
    own = write(tmp_path, "app/tasks.py")
    assert list(python_files(tmp_path)) == [own]


@pytest.mark.parametrize("change", ["written", "made", "removed"])
def test_watcher_tells_of_a_file_that(tmp_path: Path, change: str) -> None:
    file = write(tmp_path, "app/tasks.py")
    told = threading.Event()
    changed: list[Path] = []

    def tell(each: Path) -> None:
        changed.append(each)
        told.set()

    watcher = SourceWatcher([tmp_path], tell)
    watcher.start()
    try:
        if change == "written":
            file.write_text(HANDLER + "# and more\n")
        elif change == "made":
            file = write(tmp_path, "app/more.py")
        else:
            file.unlink()
        assert told.wait(20)
        assert changed == [file]
    finally:
        watcher.stop()
