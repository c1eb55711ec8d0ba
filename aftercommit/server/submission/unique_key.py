"""What a unique key stands for: a hash of its scope and of the key, or of what the payload has in its place."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

from aftercommit.core.uniqueness import HeldWhile, Scope, Uniqueness
from aftercommit.server.submission.request_hash import request_hash
from aftercommit.server.submission.unique_input import LONGEST_KEY, UniqueIn

_KINDS: Final = {dict: "object", list: "array"}


def field_flaws(unique: UniqueIn, payload: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """The fields, by position, that no key can be made of, and why: a key is made of short values, since a field may
    otherwise be most of the payload, and each of many fields the same part of it."""
    for position, name in enumerate(unique.fields or ()):
        try:
            value = _value(payload, name)
        except KeyError:
            yield position, f"{name!r} is not in the payload"
            continue
        if isinstance(value, dict | list):
            yield position, f"{name!r} is an {_KINDS[type(value)]} in the payload, not a single value"
        elif isinstance(value, str) and len(value) > LONGEST_KEY:
            yield position, f"{name!r} has {len(value)} characters in the payload; {LONGEST_KEY} are allowed"


def uniqueness(unique: UniqueIn, *, type: str, queue: str, payload: Mapping[str, Any]) -> Uniqueness:
    """What is stored and compared. ``payload`` has no ``field_flaws``."""
    name = unique.key
    made_of = {"key": name} if name is not None else {name: _value(payload, name) for name in unique.fields or ()}
    within = {Scope.TYPE: type, Scope.QUEUE: queue, Scope.GLOBAL: None}[unique.scope]
    for_seconds, at_most = unique.for_seconds, unique.at_most_seconds
    return Uniqueness(
        key=request_hash("unique", [unique.scope, within, name is not None, made_of]),
        scope=unique.scope,
        held_while=HeldWhile.FOR_SECONDS if for_seconds is not None else HeldWhile(unique.held_while or "unfinished"),
        on_conflict=unique.on_conflict,
        name=name,
        fields=tuple(unique.fields) if unique.fields is not None else None,
        for_seconds=for_seconds,
        at_most=None if at_most is None else timedelta(seconds=at_most),
    )


def _value(payload: Mapping[str, Any], name: str) -> Any:
    """Raises KeyError when there is no such field."""
    value: Any = payload
    for part in name.split("."):
        if not isinstance(value, dict):
            raise KeyError(name)
        value = value[part]
    return value
