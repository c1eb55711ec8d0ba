"""What became of a batch, row by row and destination by destination. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence

from aftercommit.broker.receipt import Fate, Receipt
from aftercommit.server.relay.grouping import Parcel


class Settlement:
    """The parcels that were published, each with its receipt."""

    def __init__(self, parcels: Sequence[Parcel], receipts: Sequence[Receipt]) -> None:
        self._parcels = list(zip(parcels, receipts, strict=True))

    def row_ids(self, fate: Fate) -> list[int]:
        return [row_id for parcel, receipt in self._parcels if receipt.fate is fate for row_id in parcel.row_ids]

    def reasons(self, fate: Fate) -> dict[int, str]:
        """By row id."""
        return {
            row_id: receipt.reason
            for parcel, receipt in self._parcels
            if receipt.fate is fate
            for row_id in parcel.row_ids
        }

    def counts(self) -> Counter[str]:
        """Rows by fate."""
        counts: Counter[str] = Counter()
        for parcel, receipt in self._parcels:
            counts[receipt.fate] += len(parcel.row_ids)
        return counts

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
        left = {
            parcel.destination
            for parcel, receipt in self._parcels
            if receipt.fate not in (Fate.CONFIRMED, Fate.UNACCEPTABLE)
        }
        last: dict[str, int] = {}
        for parcel, _ in self._parcels:
            if parcel.destination not in left:
                last[parcel.destination] = max(last.get(parcel.destination, 0), *parcel.row_ids)
        return last
