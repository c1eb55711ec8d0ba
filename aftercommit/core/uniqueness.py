"""What a submit says about its unique key. Pure."""

import json
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

KEY_FIELD: Final = "hash"
"""Where the key stands in ``Uniqueness.stored``."""


class Scope(StrEnum):
    """Among which tasks a key is unique: those of its type, of its queue, or all."""

    TYPE = "type"
    QUEUE = "queue"
    GLOBAL = "global"


class OnConflict(StrEnum):
    """What becomes of a submit whose key another task holds."""

    RETURN_EXISTING = "return_existing"
    REJECT = "reject"
    REPLACE = "replace"


class HeldWhile(StrEnum):
    """How long a task holds its key: until it is started, until it is final, or for a time."""

    WAITING = "waiting"
    UNFINISHED = "unfinished"
    FOR_SECONDS = "for_seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniqueness:
    """``key`` is the hash that two submits share which are not to exist side by side; ``name`` or ``fields``, what it
    was made of. ``for_seconds`` is set with ``HeldWhile.FOR_SECONDS``, ``at_most`` only with ``OnConflict.REPLACE``."""

    key: bytes
    scope: Scope
    held_while: HeldWhile
    on_conflict: OnConflict
    name: str | None = None
    fields: tuple[str, ...] | None = None
    for_seconds: float | None = None
    at_most: timedelta | None = None

    @property
    def stored(self) -> str:
        """What is kept with the task, as JSON: enough for it to hold its key again."""
        kept = {
            KEY_FIELD: self.key.hex(),
            "key": self.name,
            "fields": self.fields,
            "scope": self.scope,
            "while": None if self.held_while is HeldWhile.FOR_SECONDS else self.held_while,
            "for_seconds": self.for_seconds,
        }
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
