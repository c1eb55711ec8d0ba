"""Which settings belong to which role, and values of them that every other role is given.

In a deployment each role has its own environment. A role that reads another role's setting works by chance while all of
them are set alike, so the tests set them apart: a role gets its own settings as they should be, and the other roles'
at values that would stop it or spoil its work.
"""

from collections.abc import Mapping
from typing import Final

SHARED: Final = frozenset({
    "POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_POOL_SIZE",
    "RABBITMQ_URL", "RABBITMQ_QUEUE_TYPE", "QUEUES", "LOG_FORMAT", "LOG_LEVEL", "LOG_SUMMARY_SECONDS", "HEALTH_FILE",
    "OUTBOX_TASKS_PER_MESSAGE",
})  # fmt: skip
"""What each role has in its environment for itself."""

DECLARED: Final = frozenset({"RETRY_DELAYS_SECONDS"})
"""What workers schedule by, and relay and maintenance declare queues for. The API must not need it."""

WRONG: Final[Mapping[str, Mapping[str, str]]] = {
    "worker": {
        "MAX_RETRIES": "0",
        "TASK_TIMEOUT_SECONDS": "0.5",
        "WORKER_QUEUES": "tasks.low",
        "WORKER_PREFETCH": "1",
        "WORKER_CONCURRENCY": "1",
        "WORKER_MODULES": "no.such.module",
        "WORKER_HAND_BACK_SECONDS": "0.1",
        "WORKER_LEASE_SECONDS": "3600",
        "WORKER_LEASE_RENEW_SECONDS": "1800",
        "WORKER_SHUTDOWN_SECONDS": "0.1",
        "WORKER_MAX_RESULT_BYTES": "1024",
        "WORKER_TRANSACTION_POOL": "1",
        "WORKER_TRANSACTION_STATEMENT_SECONDS": "1",
        "HTTP_ALLOW_PRIVATE_ADDRESSES": "true",
        "HTTP_MAX_RESPONSE_BYTES": "1",
    },
    "relay": {
        "OUTBOX_POLL_INTERVAL": "604800",
        "OUTBOX_BATCH_SIZE": "1",
        "OUTBOX_MAX_ATTEMPTS": "1",
        "OUTBOX_CONFIRM_SECONDS": "0.1",
    },
    "maintenance": {
        "TOPOLOGY_INTERVAL_SECONDS": "604800",
        "SCHEDULER_INTERVAL_SECONDS": "60",
        "RESCUE_INTERVAL_SECONDS": "604800",
        "RESCUE_OVERDUE_SECONDS": "0.1",
        "UNKNOWN_TYPE_SECONDS": "0.1",
        "RECONCILE_INTERVAL_SECONDS": "604800",
        "RECONCILE_AFTER_SECONDS": "604800",
        "PRUNE_INTERVAL_SECONDS": "604800",
        "RETENTION_SUCCEEDED_SECONDS": "0.1",
        "RETENTION_FAILED_SECONDS": "0.1",
        "RETENTION_SCHEDULE_RUNS_SECONDS": "0.1",
        "RETENTION_TASKS_PER_SECOND": "1000000",
    },
    "api": {
        "RABBITMQ_MANAGEMENT_URL": "http://127.0.0.1:1",
        "API_HOST": "192.0.2.1",
        "API_PORT": "1",
        "API_MAX_PAYLOAD_BYTES": "1",
        "API_MAX_BODY_BYTES": "1024",
        "API_MAX_BODIES_BYTES": "1024",
        "API_MAX_PAGE_BYTES": "1",
        "API_SHUTDOWN_SECONDS": "1",
        "SCHEMA_CHECK": "reject",
        "SUBMIT_QUEUE_TASKS": "1",
        "SUBMIT_QUEUE_BYTES": "1",
        "SUBMIT_WAIT_SECONDS": "0.01",
        "OUTBOX_EAGER": "false",
        "OUTBOX_EAGER_GRACE_SECONDS": "60",
    },
    "forward": {
        "FORWARD_DSN": "postgresql://127.0.0.1:1/nowhere",
        "FORWARD_BATCH_SIZE": "1",
        "FORWARD_POLL_SECONDS": "604800",
        "AFTERCOMMIT_URL": "http://127.0.0.1:1",
        "AFTERCOMMIT_API_KEY": "wrong",
    },
}
"""By the role that reads them: valid, and wrong for anybody who does."""

ROLES: Final = tuple(WRONG)


def others_settings(role: str) -> dict[str, str]:
    """The settings that ``role`` must not read, as they stand in its environment."""
    found = {name: value for owner, values in WRONG.items() if owner != role for name, value in values.items()}
    return found | ({"RETRY_DELAYS_SECONDS": "86400"} if role == "api" else {})
