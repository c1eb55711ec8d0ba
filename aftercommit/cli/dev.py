"""``aftercommit dev``: which of its ways it goes."""

import argparse
import sys
from pathlib import Path

from aftercommit.core.settings import Settings, load_settings
from aftercommit.devstack.__main__ import clean
from aftercommit.devstack.failure import DevstackError
from aftercommit.devstack.foreground import dev


def run(given: argparse.Namespace) -> int:
    """0 after an orderly stop, 1 when something is missing or the demo's account does not add up."""
    folder = Path.cwd()
    settings = load_settings()
    try:
        if given.clean:
            clean(folder)
            return 0
        if given.demo:
            # Its packages would hold up the others' start.
            from aftercommit.devstack.demo.run import demo

            return demo(folder)
        return dev(
            folder, modules=settings.worker_modules, api_port=_given_port(given, settings), reload=not given.no_reload
        )
    except DevstackError as error:
        print(error, file=sys.stderr)
        return 1


def _given_port(given: argparse.Namespace, settings: Settings) -> int | None:
    """None for the default port, which gives way to a server that has it already unless --port asks for it."""
    is_default = settings.api_port == Settings.model_fields["api_port"].default
    return None if is_default and given.API_PORT is None else settings.api_port
