"""Of two code bases that share the queues: one has these task types, ``code_base_two`` the others."""

from tests.faults.handlers import broken, flaky, quick

__all__ = ["broken", "flaky", "quick"]
