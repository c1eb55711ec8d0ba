"""`python -m aftercommit.devstack servers | stop | clean`: the servers of this folder's `aftercommit dev`, alone.

Only the standard library is needed here: it works before anything is installed.
"""

import argparse
import shlex
import shutil
import sys
from pathlib import Path

from aftercommit.devstack.failure import DevstackError
from aftercommit.devstack.server_user import fallback_folder
from aftercommit.devstack.servers import Servers
from aftercommit.devstack.stack import data_folder, hold


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m aftercommit.devstack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("servers", help='start them; use it as: eval "$(python -m aftercommit.devstack servers)"')
    commands.add_parser("stop", help="stop those that run in the background")
    commands.add_parser("clean", help="stop them and remove their data")
    commands_by_name = {"servers": _servers, "stop": stop, "clean": clean}
    try:
        commands_by_name[parser.parse_args().command](Path.cwd())
    except DevstackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _servers(folder: Path) -> None:
    data = data_folder(folder)
    with hold(data):
        servers = Servers(data)
        servers.start()
    for name, value in servers.environment().items():
        print(f"export {name}={shlex.quote(value)}")


def stop(folder: Path) -> None:
    data = data_folder(folder)
    if data.exists():
        with hold(data):
            Servers(data).stop()


def clean(folder: Path) -> None:
    data = data_folder(folder)
    if data.exists():
        stop(folder)
        shutil.rmtree(fallback_folder(data / "postgres"), ignore_errors=True)
        shutil.rmtree(data)


if __name__ == "__main__":
    sys.exit(main())
