"""What a handler raises to say how its attempt ended. Any other exception is retried."""

from typing import Final

LONGEST_AFTER_SECONDS: Final = 31_536_000


class Retry(Exception):
    """Try again later, as long as retries are left.

    ``after`` is the wait in seconds (0 or more); None takes the next of RETRY_DELAYS_SECONDS.
    """

    def __init__(self, reason: str = "the handler asked for a retry", *, after: float | None = None) -> None:
        if after is not None and not 0 <= after <= LONGEST_AFTER_SECONDS:
            raise ValueError(f"after is {after!r}: give seconds from 0 to {LONGEST_AFTER_SECONDS}, a year")
        super().__init__(reason)
        self.after = after


class Fail(Exception):
    """Fail for good, whatever retries are left."""


class InvalidPayload(Fail):
    """The payload does not fit the handler's parameters; its text names the fields."""
