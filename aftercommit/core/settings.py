"""Settings, from the environment and ``.env``: one frozen object that each role builds once and passes down."""

import sys
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from aftercommit.core.queues import Priority, QueueType, WorkQueuePattern
from aftercommit.core.setting_rules import broken_rules
from aftercommit.core.setting_types import (
    BodyBytes,
    BrokerUrl,
    Confirm,
    Delays,
    Dsn,
    Duration,
    HandBack,
    HttpUrl,
    Lease,
    Modules,
    PayloadBytes,
    Port,
    Queues,
    Renewal,
    ResultBytes,
    Retention,
    SchemaCheck,
    Shares,
)
from aftercommit.core.task_ref import MAX_REFS


class Settings(BaseSettings):
    """All settings of all roles; ``.env.example`` says what each means and its unit."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    postgres_db: str = "aftercommit"
    postgres_user: str = "aftercommit"
    postgres_password: str = ""
    postgres_host: str = "localhost"
    postgres_port: Port = 5432
    postgres_pool_size: Annotated[int, Field(ge=1, le=1_000)] = 10

    rabbitmq_url: BrokerUrl = "amqp://guest:guest@localhost/"
    rabbitmq_management_url: HttpUrl | None = None
    rabbitmq_queue_type: QueueType = QueueType.QUORUM

    queues: Queues = ("tasks",)
    max_retries: Annotated[int, Field(ge=0, le=1000)] = 3
    retry_delays_seconds: Delays = (5, 30, 120)
    task_timeout_seconds: Duration = 300.0

    outbox_poll_interval: Duration = 1.0
    outbox_batch_size: Annotated[int, Field(ge=1, le=10_000)] = 500
    outbox_tasks_per_message: Annotated[int, Field(ge=1, le=MAX_REFS)] = 100
    outbox_max_attempts: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    outbox_confirm_seconds: Confirm = 10.0
    outbox_eager: bool = True
    outbox_eager_grace_seconds: Annotated[float, Field(ge=0.1, le=60)] = 2.0

    worker_queues: Shares = (
        (WorkQueuePattern("tasks", Priority.HIGH), None),
        (WorkQueuePattern("tasks", Priority.MEDIUM), None),
        (WorkQueuePattern("tasks", Priority.LOW), None),
    )
    worker_prefetch: Annotated[int, Field(ge=1, le=65_535)] = 100
    worker_concurrency: Annotated[int, Field(ge=1, le=10_000)] = 50
    worker_modules: Modules = ()
    worker_hand_back_seconds: HandBack = 3.0
    worker_lease_seconds: Lease = 10.0
    worker_lease_renew_seconds: Renewal = 3.0
    worker_shutdown_seconds: Duration = 25.0
    worker_max_result_bytes: ResultBytes = 1_048_576
    worker_transaction_pool: Annotated[int, Field(ge=1, le=1_000)] = 10
    worker_transaction_statement_seconds: Annotated[float, Field(ge=1, le=86_400)] = 25.0

    api_host: str = "127.0.0.1"
    api_port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    api_max_payload_bytes: PayloadBytes = 262_144
    api_max_body_bytes: BodyBytes = 67_108_864
    api_max_bodies_bytes: PositiveInt = 268_435_456
    api_max_page_bytes: PositiveInt = 4_194_304
    api_shutdown_seconds: Annotated[int, Field(ge=1, le=3_600)] = 15

    schema_check: SchemaCheck = SchemaCheck.WARN
    submit_queue_tasks: PositiveInt = 20_000
    submit_queue_bytes: PositiveInt = 134_217_728
    submit_wait_seconds: Duration = 10.0

    topology_interval_seconds: Duration = 30.0
    scheduler_interval_seconds: Annotated[Duration, Field(le=60)] = 1.0
    rescue_interval_seconds: Duration = 1.0
    rescue_overdue_seconds: Duration = 60.0
    unknown_type_seconds: Annotated[float, Field(gt=0, le=3_153_600_000)] = 86_400.0
    reconcile_interval_seconds: Duration = 10.0
    reconcile_after_seconds: Duration = 30.0
    prune_interval_seconds: Duration = 60.0
    retention_succeeded_seconds: Retention = 604_800.0
    retention_failed_seconds: Retention = 7_776_000.0
    retention_schedule_runs_seconds: Annotated[float, Field(gt=0, le=3_153_600_000)] = 2_592_000.0
    retention_tasks_per_second: Annotated[float, Field(gt=0, le=1_000_000)] = 2_000.0

    forward_dsn: Dsn | None = None
    forward_batch_size: Annotated[int, Field(ge=1, le=10_000)] = 1_000
    forward_poll_seconds: Duration = 1.0
    aftercommit_url: HttpUrl | None = None
    aftercommit_api_key: str | None = None

    http_allow_private_addresses: bool = False
    http_max_response_bytes: PositiveInt = 65_536

    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_summary_seconds: Duration = 30.0

    health_file: Path | None = None

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        if broken := broken_rules(self):
            raise ValueError("\n".join(broken))
        return self


def describe(error: ValidationError) -> list[str]:
    """A line per bad setting: its name as it stands in the environment, what is wrong first, and what was given. And a
    line per rule between settings that is broken."""
    fields: dict[str, str] = {}
    rules: list[str] = []
    for flaw in error.errors(include_url=False):
        message = flaw["msg"].removeprefix("Value error, ")
        if flaw["loc"]:
            name = str(flaw["loc"][0]).upper()
            given = (
                ""
                if any(part in name for part in ("PASSWORD", "URL", "DSN", "KEY"))
                else f" (given: {flaw['input']!r})"
            )
            fields.setdefault(name, f"{name}: {message}{given}")
        else:
            rules += message.splitlines()
    return [*fields.values(), *rules]


def load_settings() -> Settings:
    """The settings of this process. A bad one ends the process with status 2 and a line per field on stderr."""
    try:
        return Settings()
    except ValidationError as error:
        for line in describe(error):
            print(line, file=sys.stderr)
        sys.exit(2)
