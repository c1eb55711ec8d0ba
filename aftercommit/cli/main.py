"""The commands and their flags. A flag is a setting: it stands over the environment, and is checked as that is.

What a command needs is imported when it is called: each extra brings the packages of some commands only.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

from aftercommit import __version__

USAGE: Final = 2
"""The exit status for what cannot be used: a flag, a setting, a module, an extra that is not installed."""

PROBES: Final = {
    "worker": ("aio_pika", "asyncpg", "pydantic_settings"),
    "server": ("alembic", "fastapi", "uvicorn"),
    "dev": ("alembic", "fastapi", "uvicorn", "rich"),
}
"""By extra: packages that tell whether it is installed."""


@dataclass(frozen=True, slots=True)
class Flag:
    setting: str
    metavar: str
    help: str

    @property
    def name(self) -> str:
        """``--modules`` of WORKER_MODULES."""
        name = self.setting.lower()
        for prefix in ("worker_", "api_", "forward_", "aftercommit_"):
            name = name.removeprefix(prefix)
        return "--" + name.replace("_", "-")


@dataclass(frozen=True, slots=True)
class Command:
    help: str
    extra: str
    run: Callable[[argparse.Namespace], int]
    flags: tuple[Flag, ...] = ()
    switches: tuple[tuple[str, str], ...] = ()
    """Names and helps of flags without a value."""

    arguments: tuple[tuple[str, dict[str, Any]], ...] = ()
    """What else argparse is told: names, and the options of ``add_argument``."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status, or exits with it as ``run_role`` does."""
    given = make_parser().parse_args(arguments)
    command = COMMANDS[given.command]
    if not all(find_spec(package) for package in PROBES[command.extra]):
        print(
            f"`aftercommit {given.command}` needs packages that are not installed: "
            f"pip install 'aftercommit[{command.extra}]'",
            file=sys.stderr,
        )
        return USAGE
    for flag in (*command.flags, *LOG_FLAGS):
        if (value := getattr(given, flag.setting)) is not None:
            os.environ[flag.setting] = value
    return command.run(given)


def _role(module: str) -> Callable[[argparse.Namespace], int]:
    """Runs ``main()`` of a module."""

    def run(_: argparse.Namespace) -> int:
        importlib.import_module(module).main()
        return 0

    return run


def _work(given: argparse.Namespace) -> int:
    if given.reload:
        from aftercommit.cli.reload import work

        return work()
    return _role("aftercommit.worker.run")(given)


def _develop(given: argparse.Namespace) -> int:
    from aftercommit.cli.dev import run

    return run(given)


def _outbox(given: argparse.Namespace) -> int:
    from aftercommit.forward.commands import run

    return run(given.action, given.ids, given.grant)


LOG_FLAGS: Final = (
    Flag("LOG_LEVEL", "LEVEL", "debug, info, warning or error"),
    Flag("LOG_FORMAT", "FORM", "json or console"),
)
MODULES: Final = Flag("WORKER_MODULES", "A,B", "Python modules with handlers; they are looked for in this folder, too")
DSN: Final = Flag("FORWARD_DSN", "DSN", "the caller's database: postgresql://user:password@host/database")
PORT: Final = Flag("API_PORT", "PORT", "the port to listen on")

COMMANDS: Final = {
    "worker": Command(
        "run tasks",
        "worker",
        _work,
        (
            MODULES,
            Flag("WORKER_QUEUES", "A,B", "work queues in strict order, or all with a weight: tasks.high:6,tasks.low:1"),
            Flag("WORKER_CONCURRENCY", "N", "tasks that run at a time"),
        ),
        (("--reload", "for development: start anew when a Python file of the modules' folders changes"),),
    ),
    "api": Command(
        "take tasks over HTTP",
        "server",
        _role("aftercommit.server.api.run"),
        (Flag("API_HOST", "ADDRESS", "the address to listen on"), PORT),
    ),
    "relay": Command("send committed tasks to RabbitMQ", "server", _role("aftercommit.server.relay.run")),
    "maintenance": Command(
        "send due retries, rescue tasks of dead workers, clean up",
        "server",
        _role("aftercommit.server.maintenance.run"),
    ),
    "forward": Command(
        "send what callers committed in a database of their own to the service",
        "worker",
        _role("aftercommit.forward.run"),
        (DSN, Flag("AFTERCOMMIT_URL", "URL", "the service: http://127.0.0.1:8000")),
    ),
    "outbox": Command(
        "make the outbox for that, show how it stands, send refused rows again or delete them",
        "worker",
        _outbox,
        (DSN,),
        arguments=(
            ("action", {"choices": ("install", "status", "retry", "discard")}),
            (
                "ids",
                {"nargs": "*", "type": int, "metavar": "ID", "help": "refused rows to retry or discard; none: all"},
            ),
            (
                "--grant",
                {
                    "action": "append",
                    "default": [],
                    "metavar": "ROLE",
                    "help": "install: let this role submit; again for more",
                },
            ),
        ),
    ),
    "migrate": Command("bring the database to this version's schema", "server", _role("aftercommit.server.migrate")),
    "dev": Command(
        "run everything on private servers, with the handlers of this folder, until Ctrl-C",
        "dev",
        _develop,
        (MODULES, PORT),
        (
            ("--no-reload", "let the worker run on when a Python file of this folder changes"),
            ("--demo", "put a real load on it, check that nothing was lost, and stop"),
            ("--clean", "remove the data of this folder's servers, and stop"),
        ),
    ),
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aftercommit",
        description="A task service: committed in Postgres, delivered through RabbitMQ, run by Python workers.",
        epilog="All settings come from the environment and from .env in this folder; a flag stands over both.",
    )
    parser.add_argument("--version", action="version", version=f"aftercommit {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help, description=f"{command.help[0].upper()}{command.help[1:]}.")
        for flag in (*command.flags, *LOG_FLAGS):
            help_text = f"{flag.help} ({flag.setting})"
            sub.add_argument(flag.name, dest=flag.setting, metavar=flag.metavar, help=help_text)
        for switch, help_text in command.switches:
            sub.add_argument(switch, action="store_true", help=help_text)
        for argument, options in command.arguments:
            sub.add_argument(argument, **options)
    return parser
