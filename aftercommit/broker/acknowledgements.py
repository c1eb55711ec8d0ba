"""Which deliveries of a channel are done with, and how to say so in few frames. Pure."""


class Acknowledgements:
    """A channel counts its deliveries: the tags 1, 2, 3, … One acknowledgement may stand for all open tags up to its
    own."""

    def __init__(self) -> None:
        self._answered_to = 0
        self._answered: set[int] = set()
        self._done: set[int] = set()

    def __len__(self) -> int:
        """How many are done with, and the broker does not know it yet."""
        return len(self._done)

    def done(self, tag: int) -> None:
        """``take`` returns it next time, by its own tag or a later one."""
        self._done.add(tag)

    def answered(self, tag: int) -> None:
        """The broker was told about this tag alone, whether acknowledged or handed back."""
        self._answered.add(tag)

    def take(self) -> list[tuple[int, bool]]:
        """Acknowledgements to send now, as (delivery tag, multiple)."""
        last = None
        while (tag := self._answered_to + 1) in self._done or tag in self._answered:
            if tag in self._done:
                last = tag
            self._done.discard(tag)
            self._answered.discard(tag)
            self._answered_to = tag
        apart = sorted(self._done)
        self._answered |= self._done
        self._done.clear()
        return ([(last, True)] if last is not None else []) + [(tag, False) for tag in apart]
