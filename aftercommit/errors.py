"""What a handler raises to say how its attempt ended. Any other exception is retried."""

from typing import Final

LONGEST_AFTER_SECONDS: Final = 31_536_000
SHORTEST_SNOOZE_SECONDS: Final = 1
"""Nothing else bounds how often a task snoozes."""


class Retry(Exception):
    """Try again later, as long as retries are left.

    ``after`` is the wait in seconds (0 or more); None takes the next of the task's delays.
    """

    def __init__(self, reason: str = "the handler asked for a retry", *, after: float | None = None) -> None:
        if after is not None and not 0 <= after <= LONGEST_AFTER_SECONDS:
            raise ValueError(f"after is {after!r}: give seconds from 0 to {LONGEST_AFTER_SECONDS}, a year")
        super().__init__(reason)
        self.after = after


class Snooze(Exception):
    """Run the task again in so many ``seconds`` (1 to a year). The attempt does not count against max_retries, however
    often this is raised."""

    def __init__(self, seconds: float, reason: str = "the handler asked to be run later") -> None:
        if not SHORTEST_SNOOZE_SECONDS <= seconds <= LONGEST_AFTER_SECONDS:
            raise ValueError(
                f"seconds is {seconds!r}: give {SHORTEST_SNOOZE_SECONDS} to {LONGEST_AFTER_SECONDS}, a year"
            )
        super().__init__(reason)
        self.seconds = seconds


class Fail(Exception):
    """Fail for good, whatever retries are left."""


class InvalidPayload(Fail):
    """The payload does not fit the handler's parameters; its text names the fields."""
