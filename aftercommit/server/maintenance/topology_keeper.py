"""Declares the queues again and again, so that a queue that vanished comes back by itself."""

from aftercommit.broker.declaration import Declarer


class TopologyKeeper:
    def __init__(self, declarer: Declarer, *, interval_seconds: float) -> None:
        self._declarer = declarer
        self._interval_seconds = interval_seconds

    async def run_once(self) -> float:
        """Declare everything; what cannot be used is logged, and does not stop the rest. Raises BrokerUnavailable."""
        await self._declarer.declare()
        return self._interval_seconds
