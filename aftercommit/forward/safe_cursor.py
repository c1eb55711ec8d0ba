"""From which id on the outbox is read, so that the dead rows below cost nothing and nobody is passed over. Pure.

Ids are given before they commit: a lower one may come after a higher one was read. A row that is read later than one
with the same key and a higher id would break the order of the key. So the cursor follows only when every transaction
has ended that was running when its id was read; the outbox's function takes a transaction id before it takes a row's.
"""


class SafeCursor:
    """All rows up to ``after`` were read, or will never be."""

    def __init__(self) -> None:
        self.after = 0
        self._mark: tuple[int, int] | None = None

    def saw(self, last_id: int, *, oldest_running: int, next_transaction: int) -> None:
        """A statement read the rows above ``after`` up to ``last_id``. The others are of its snapshot: all transactions
        before ``oldest_running`` had ended, and those from ``next_transaction`` on had not begun."""
        if self._mark is not None and oldest_running >= self._mark[1]:
            self.after = self._mark[0]
            self._mark = None
        if self._mark is None and last_id > self.after:
            self._mark = (last_id, next_transaction)

    def rewind(self) -> None:
        """Rows below may wait again."""
        self.after, self._mark = 0, None
