"""Declares the queues again and again, so that a queue that vanished comes back by itself."""

from aftercommit.broker import topology
from aftercommit.broker.connection import BrokerConnection
from aftercommit.core.settings import Settings


class TopologyKeeper:
    def __init__(self, connection: BrokerConnection, settings: Settings) -> None:
        self._connection = connection
        self._settings = settings

    async def run_once(self) -> float:
        """Declare everything. Raises BrokerUnavailable."""
        await topology.declare(
            self._connection,
            work_queues=self._settings.work_queues,
            delays_seconds=self._settings.retry_delays_seconds,
        )
        return self._settings.topology_interval_seconds
