"""Which types this worker claims."""

from collections.abc import Iterable


class TypeFilter:
    """``on`` once this worker has met a type that it does not know: other code bases send tasks to its queues. From
    then on its claims pass over such types; before, claims pay nothing for this."""

    def __init__(self, known: Iterable[str]) -> None:
        self.known = sorted(known)
        self.on = False
