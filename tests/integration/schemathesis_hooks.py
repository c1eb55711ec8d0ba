"""Loaded by schemathesis, not by pytest."""

import itertools
import re
from typing import Any

import schemathesis

from aftercommit.server.api.schemas import KEY_PATTERN

HEADER = "Idempotency-Key"
_numbers = itertools.count()


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: Any, kwargs: dict[str, Any]) -> None:
    """Make each good key a new one: that a key stands for its first request is no part of a request's schema."""
    if re.fullmatch(KEY_PATTERN, str((case.headers or {}).get(HEADER, ""))):
        case.headers[HEADER] = f"key-{next(_numbers)}"
