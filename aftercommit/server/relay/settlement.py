"""What became of a batch, row by row and destination by destination. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence

from aftercommit.broker.receipt import Fate, Receipt
from aftercommit.core.task_ref import TaskRef
from aftercommit.db.outbox import OutboxRow
from aftercommit.server.relay.grouping import Parcel

_FINAL = (Fate.CONFIRMED, Fate.UNACCEPTABLE)


class Settlement:
    """The parcels that were published, each with its receipt."""

    def __init__(self, parcels: Sequence[Parcel], receipts: Sequence[Receipt]) -> None:
        self._parcels = list(zip(parcels, receipts, strict=True))
        self._left = {
            row_id
            for parcel, receipt in self._parcels
            if receipt.fate is not Fate.CONFIRMED
            for row_id in parcel.row_ids
        }
        """Rows of which something is not confirmed."""

    def done(self) -> list[int]:
        """The rows that are confirmed as a whole."""
        seen = dict.fromkeys(row_id for parcel, _ in self._parcels for row_id in parcel.row_ids)
        return [row_id for row_id in seen if row_id not in self._left]

    def kept(self, rows: Sequence[OutboxRow]) -> Mapping[int, list[TaskRef]]:
        """What is left in those of ``rows`` that are confirmed in part, by row id."""
        begun = {
            row_id
            for parcel, receipt in self._parcels
            if receipt.fate is Fate.CONFIRMED
            for row_id in parcel.row_ids
            if row_id in self._left
        }
        if not begun:
            return {}
        unconfirmed = {
            ref for parcel, receipt in self._parcels if receipt.fate is not Fate.CONFIRMED for ref in parcel.refs
        }
        return {row.id: [ref for ref in row.refs() if ref in unconfirmed] for row in rows if row.id in begun}

    def tasks(self, fate: Fate) -> int:
        """How many tasks had this fate; a message that is not one of ours counts as one."""
        return sum(parcel.tasks for parcel, receipt in self._parcels if receipt.fate is fate)

    def reasons(self, fate: Fate) -> dict[int, str]:
        """By row id, where a part of the row had this fate."""
        return {
            row_id: receipt.reason
            for parcel, receipt in self._parcels
            if receipt.fate is fate
            for row_id in parcel.row_ids
        }

    def counts(self) -> Counter[str]:
        """Tasks by fate."""
        return Counter({fate: tasks for fate in Fate if (tasks := self.tasks(fate))})

    def troubles(self) -> Mapping[str, str]:
        """The destinations that are to be left alone for a while, and why: they refused or returned something, or
        confirmed nothing while another did. (A quorum queue without its majority is silent; the next round would wait
        for it as long again, and the other destinations with it.)"""
        confirming = {parcel.destination for parcel, receipt in self._parcels if receipt.fate is Fate.CONFIRMED}
        return {
            parcel.destination: receipt.reason
            for parcel, receipt in self._parcels
            if receipt.fate in (Fate.REFUSED, Fate.RETURNED)
            or (receipt.fate is Fate.UNKNOWN and confirming and parcel.destination not in confirming)
        }

    def destinations(self) -> set[str]:
        return {parcel.destination for parcel, _ in self._parcels}

    def last_ids(self) -> Mapping[str, int]:
        """The last row of each destination that took, for good, everything that went there. (A row that was found
        unacceptable is parked, and is read no more.)"""
        left = {parcel.destination for parcel, receipt in self._parcels if receipt.fate not in _FINAL}
        last: dict[str, int] = {}
        for parcel, _ in self._parcels:
            if parcel.destination not in left:
                last[parcel.destination] = max(last.get(parcel.destination, 0), *parcel.row_ids)
        return last
