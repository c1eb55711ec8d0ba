"""Which deliveries of a channel are done with, and how to say so in few frames. Pure."""


class Acknowledgements:
    """A channel counts its deliveries: the tags 1, 2, 3, … An answer may stand for all open ones up to its tag."""

    def __init__(self) -> None:
        self._answered_to = 0
        self._answered: set[int] = set()
        self._done: set[int] = set()

    def __len__(self) -> int:
        """How many are done with and not yet told."""
        return len(self._done)

    def done(self, tag: int) -> None:
        """To be told by ``take``."""
        self._done.add(tag)

    def answered(self, tag: int) -> None:
        """The broker was told by itself, this or something else."""
        self._answered.add(tag)

    def take(self) -> list[tuple[int, bool]]:
        """What is to be told now: tags, and whether each stands for all before it too."""
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
