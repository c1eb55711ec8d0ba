"""Of two code bases that share the queues: one has these task types, ``code_base_one`` the others."""

from tests.faults import handlers
from tests.faults.handlers import hopeless, sleep, sync
from tests.faults.kinds import HAS_TRANSACTIONS

__all__ = ["hopeless", "sleep", "sync"]

if HAS_TRANSACTIONS:
    transactional = handlers.transactional
