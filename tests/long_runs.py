"""How often tests repeat what chance decides: a little in every run, and a lot where LONG_TESTS=1 asks for it."""

import os
from typing import Final

LONG: Final = os.environ.get("LONG_TESTS", "0") != "0"


def often(usual: int, *, long: int) -> int:
    """How often, how many: ``usual``, or ``long`` in a long run."""
    return long if LONG else usual
