"""JSON as it is stored: compact UTF-8 text, and only what Postgres and every JSON reader can take back."""

import json
import math
from collections.abc import Iterator
from typing import Any, Final

MAX_DEPTH: Final = 100
"""Deeper nesting would overrun the recursion of readers that we do not control."""

LONGEST_TOKEN: Final = 200
"""A key may have megabytes, and stands in the pointer of each flaw below it."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def dump(value: Any) -> str:
    """``value`` as compact JSON. Raises ValueError or TypeError for what JSON cannot say."""
    # What most handlers return and many payloads hold; the encoder takes longer to set up than for what it encodes.
    if value is None:
        return "null"
    if isinstance(value, dict) and not value:
        return "{}"
    return _encode(value)


def storable(text: str) -> str:
    """``text`` with what no UTF-8 column can hold (lone surrogates, NUL) replaced: for errors of foreign origin."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}")


def is_plain(value: Any, depth: int = 0) -> bool:
    """Whether ``value`` surely has no flaw: what most have to show is seen here, at a fraction of the cost."""
    match value:
        case str():
            return value.isascii() and "\x00" not in value
        case None | bool() | int():
            return True
        case float():
            return math.isfinite(value)
        case dict() if depth < MAX_DEPTH:
            return all(is_plain(key) and is_plain(item, depth + 1) for key, item in value.items())
        case list() if depth < MAX_DEPTH:
            return all(is_plain(item, depth + 1) for item in value)
        case _:
            return False


def find_flaws(value: Any, pointer: str = "#", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield (JSON pointer, what is wrong) for each part of a parsed JSON value that cannot be kept faithfully."""
    if depth > MAX_DEPTH:
        yield pointer, f"is nested deeper than {MAX_DEPTH} levels"
        return
    match value:
        case str():
            if flaw := text_flaw(value):
                yield pointer, flaw
        case float() if not math.isfinite(value):
            yield pointer, "is not a finite number that JSON can carry"
        case dict():
            for key, item in value.items():
                if flaw := text_flaw(key):
                    yield pointer, f"has a key that {flaw}"
                yield from find_flaws(item, f"{pointer}/{escape_pointer(key)}", depth + 1)
        case list():
            for index, item in enumerate(value):
                yield from find_flaws(item, f"{pointer}/{index}", depth + 1)


def text_flaw(text: str) -> str | None:
    """What keeps ``text`` out of a Postgres string, or None."""
    if text.isascii():
        return "holds a NUL character, which Postgres cannot store" if "\x00" in text else None
    if "\x00" in text:
        return "holds a NUL character, which Postgres cannot store"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds a lone surrogate, which is not a character"
    return None


def escape_pointer(token: str) -> str:
    """One reference token of RFC 6901; unencodable characters are shown replaced, a very long one is cut."""
    if len(token) > LONGEST_TOKEN:
        token = token[:LONGEST_TOKEN] + "\N{HORIZONTAL ELLIPSIS}"
    return token.encode("utf-8", "replace").decode().replace("~", "~0").replace("/", "~1")
