"""How the roles of the suite are set: short leases and intervals, so that recovery shows within seconds."""

from typing import Final

LEASE_SECONDS: Final = 3
RECONCILE_AFTER_SECONDS: Final = 6
RETRY_DELAYS_SECONDS: Final = (1, 2)

SHUTDOWN_SECONDS: Final = 5

ROLE_SETTINGS: Final = {
    "QUEUES": "tasks",
    "MAX_RETRIES": "20",  # an attempt that a fault costs must not use a task up
    "RETRY_DELAYS_SECONDS": ",".join(map(str, RETRY_DELAYS_SECONDS)),
    "POSTGRES_POOL_SIZE": "5",
    "OUTBOX_POLL_INTERVAL": "0.2",
    "OUTBOX_CONFIRM_SECONDS": "3",
    "WORKER_QUEUES": "tasks.high:6,tasks.medium:3,tasks.low:1",
    "WORKER_CONCURRENCY": "50",
    "WORKER_PREFETCH": "100",
    "WORKER_SHUTDOWN_SECONDS": str(SHUTDOWN_SECONDS),
    "WORKER_LEASE_SECONDS": str(LEASE_SECONDS),
    "WORKER_LEASE_RENEW_SECONDS": "1",
    "WORKER_MODULES": "tests.faults.handlers",
    "RESCUE_INTERVAL_SECONDS": "0.5",
    "RECONCILE_INTERVAL_SECONDS": "2",
    "RECONCILE_AFTER_SECONDS": str(RECONCILE_AFTER_SECONDS),
    "SCHEDULER_INTERVAL_SECONDS": "0.2",
    "TOPOLOGY_INTERVAL_SECONDS": "2",
    "API_SHUTDOWN_SECONDS": str(SHUTDOWN_SECONDS),
    "LOG_SUMMARY_SECONDS": "2",
    "LOG_FORMAT": "json",
    "LOG_LEVEL": "info",
}
"""What the roles read. In the environment of each stand, besides, its servers' addresses, and the settings of the other
roles at values that it must not use (``tests.role_settings``)."""
