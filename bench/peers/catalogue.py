"""Which peers there are."""

from typing import Final

from bench.peers import on_broker, on_postgres
from bench.peers.peer import Peer

PEERS: Final[tuple[Peer, ...]] = (*on_broker.PEERS, *on_postgres.PEERS)
