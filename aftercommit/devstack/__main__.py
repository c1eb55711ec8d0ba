"""`python -m devstack up | demo | servers | stop | clean`."""

import argparse
import shlex
import shutil
import sys

from aftercommit.devstack.failure import DevstackError
from aftercommit.devstack.server_user import fallback_folder
from aftercommit.devstack.servers import Servers
from aftercommit.devstack.stack import FOLDER, hold, stop_leftover_roles
from aftercommit.devstack.up import up


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m devstack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="run everything in the foreground until Ctrl-C")
    commands.add_parser("demo", help="run everything, put a real load on it, check the account, stop")
    commands.add_parser("servers", help='start only the servers; use it as: eval "$(python -m devstack servers)"')
    commands.add_parser("stop", help="stop what runs in the background")
    commands.add_parser("clean", help="stop what runs in the background and remove the data")
    commands_by_name = {"up": up, "demo": _demo, "servers": _servers, "stop": _stop, "clean": _clean}
    try:
        return commands_by_name[parser.parse_args().command]()
    except DevstackError as error:
        print(error, file=sys.stderr)
        return 1


def _demo() -> int:
    # Not at the top: it needs third-party packages, which the other commands do without.
    from aftercommit.devstack.demo.run import demo

    return demo()


def _servers() -> int:
    with hold(FOLDER):
        servers = Servers(FOLDER)
        servers.start()
    for name, value in servers.environment().items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def _stop() -> int:
    if FOLDER.exists():
        with hold(FOLDER):
            stop_leftover_roles(FOLDER, print)
            Servers(FOLDER).stop()
    return 0


def _clean() -> int:
    if FOLDER.exists():
        _stop()
        shutil.rmtree(fallback_folder(FOLDER / "postgres"), ignore_errors=True)
        shutil.rmtree(FOLDER)
    return 0


if __name__ == "__main__":
    sys.exit(main())
