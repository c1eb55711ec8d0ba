"""What an Idempotency-Key stands for: a hash of the request as it was given."""

import hashlib
import json
from typing import Any

from aftercommit.server.submission.task_input import whole


def request_hash(kind: str, given: Any) -> bytes:
    """SHA-256 of ``given``, a parsed JSON value, for a request of this ``kind``.

    Key order, whitespace and the spelling of a whole number (5 or 5.0) do not matter. Fields that were left out are no
    part of it: a release that adds a field with a default changes no hash.
    """
    canonical = json.dumps([kind, _with_whole_numbers(given)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).digest()


def _with_whole_numbers(value: Any) -> Any:
    match value:
        case dict():
            return {key: _with_whole_numbers(item) for key, item in value.items()}
        case list():
            return [_with_whole_numbers(item) for item in value]
        case _:
            return whole(value)
