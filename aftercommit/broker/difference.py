"""How a queue that exists differs from the one that was declared, as RabbitMQ's refusal (406) tells it. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from aftercommit.broker.topology import TUNING

UNKNOWN: Final = "unknown"
"""RabbitMQ cuts its text after 255 bytes; the value may be missing behind the names of queue and vhost."""

_ARGUMENT: Final = re.compile(r"inequivalent arg '(?P<argument>[^']+)' for ")
_CURRENT: Final = re.compile(r": received .+ but current is (?:(?P<none>none)|(?:the value )?'(?P<current>[^']*)')")


@dataclass(frozen=True, slots=True)
class Difference:
    """``current`` is None where the queue was declared without the argument."""

    argument: str
    current: str | int | None
    wanted: Any

    @classmethod
    def read(cls, refusal: str, arguments: Mapping[str, Any]) -> Self | None:
        """The one difference that RabbitMQ names: the first it found. None when ``refusal`` is about something else."""
        if (named := _ARGUMENT.search(refusal)) is None:
            return None
        argument = named["argument"]
        return cls(argument, _current(refusal), arguments.get(argument))

    @property
    def is_tuning(self) -> bool:
        return self.argument in TUNING

    @property
    def is_known(self) -> bool:
        """Whether RabbitMQ told the current value."""
        return self.current != UNKNOWN

    def applied(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """``arguments`` with the current value in place of the wanted one."""
        others = {name: value for name, value in arguments.items() if name != self.argument}
        return others if self.current is None else {**others, self.argument: self.current}

    def __str__(self) -> str:
        return f"{self.argument} is {_shown(self.current)} (this release declares {_shown(self.wanted)})"


def _current(refusal: str) -> str | int | None:
    if (found := _CURRENT.search(refusal)) is None:
        return UNKNOWN
    if found["none"]:
        return None
    value = found["current"]
    return int(value) if re.fullmatch(r"-?\d+", value) else value


def _shown(value: Any) -> str:
    return "none" if value is None else repr(value)
