"""Declares the queues, again and again: whatever vanished comes back by itself."""

from app.broker import topology
from app.broker.connection import BrokerConnection
from app.config import Settings


class TopologyKeeper:
    def __init__(self, connection: BrokerConnection, settings: Settings) -> None:
        self._connection = connection
        self._settings = settings

    async def tick(self) -> float:
        """Declare everything. Raises BrokerUnavailable."""
        await topology.declare(
            self._connection,
            work_queues=self._settings.work_queues,
            delays_seconds=self._settings.retry_delays_seconds,
        )
        return self._settings.topology_interval_seconds
