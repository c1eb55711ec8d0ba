"""Settings, from the environment and ``.env``: one frozen object that each role builds once and passes down."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yarl
from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from aftercommit.core.queues import Priority, QueueType, WorkQueue, parse_queue
from aftercommit.core.task_ref import MAX_REFS


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _parse_share(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    name, colon, weight = value.partition(":")
    if colon and not (weight.isascii() and weight.isdecimal() and int(weight) > 0):
        raise ValueError(f"the weight of {value!r} is not a whole number above 0: write tasks.high:6")
    return WorkQueue.parse(name), int(weight) if colon else None


def _check_address(value: str) -> str:
    try:
        host = yarl.URL(value).host
    except ValueError:
        host = None
    if not host:
        # The parser's own words could quote a password.
        raise ValueError("is not scheme://user:password@host:port/path; write / # ? @ in a password as %2F %23 %3F %40")
    return value


Share = tuple[WorkQueue, int | None]
BrokerUrl = Annotated[str, Field(pattern=r"^amqps?://"), AfterValidator(_check_address)]
HttpUrl = Annotated[str, Field(pattern=r"^https?://"), AfterValidator(_check_address)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]
Duration = Annotated[float, Field(gt=0, le=604_800)]
"""Seconds, up to a week."""
Retention = Annotated[float, Field(ge=0, le=3_153_600_000)]
"""Seconds, up to a hundred years; 0 for ever."""


class Settings(BaseSettings):
    """All settings of all roles; ``.env.example`` says what each means and its unit."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    postgres_db: str = "aftercommit"
    postgres_user: str = "aftercommit"
    postgres_password: str = ""
    postgres_host: str = "localhost"
    postgres_port: Annotated[int, Field(ge=1, le=65_535)] = 5432
    postgres_pool_size: Annotated[int, Field(ge=1, le=1_000)] = 10

    rabbitmq_url: BrokerUrl = "amqp://guest:guest@localhost/"
    rabbitmq_management_url: HttpUrl | None = None
    rabbitmq_queue_type: QueueType = QueueType.QUORUM

    queues: Annotated[
        tuple[Annotated[str, BeforeValidator(lambda name: parse_queue(str(name)))], ...],
        NoDecode,
        BeforeValidator(_split),
        Field(min_length=1),
    ] = ("tasks",)
    max_retries: Annotated[int, Field(ge=0, le=1000)] = 3
    retry_delays_seconds: Annotated[tuple[Seconds, ...], NoDecode, BeforeValidator(_split), Field(min_length=1)] = (
        5,
        30,
        120,
    )
    task_timeout_seconds: Duration = 300.0

    outbox_poll_interval: Duration = 1.0
    outbox_batch_size: Annotated[int, Field(ge=1, le=10_000)] = 500
    outbox_tasks_per_message: Annotated[int, Field(ge=1, le=MAX_REFS)] = 100
    outbox_max_attempts: PositiveInt = 10
    outbox_confirm_seconds: Duration = 10.0

    worker_queues: Annotated[
        tuple[Annotated[Share, BeforeValidator(_parse_share)], ...],
        NoDecode,
        BeforeValidator(_split),
        Field(min_length=1),
    ] = (
        (WorkQueue("tasks", Priority.HIGH), None),
        (WorkQueue("tasks", Priority.MEDIUM), None),
        (WorkQueue("tasks", Priority.LOW), None),
    )
    worker_prefetch: Annotated[int, Field(ge=1, le=65_535)] = 100
    worker_concurrency: Annotated[int, Field(ge=1, le=10_000)] = 50
    worker_modules: Words = ()
    worker_hand_back_seconds: Duration = 3.0
    worker_lease_seconds: Duration = 10.0
    worker_lease_renew_seconds: Duration = 3.0
    worker_shutdown_seconds: Duration = 25.0
    worker_max_result_bytes: PositiveInt = 1_048_576
    worker_transaction_pool: Annotated[int, Field(ge=1, le=1_000)] = 10
    worker_transaction_statement_seconds: Annotated[float, Field(ge=1, le=86_400)] = 25.0

    api_host: str = "127.0.0.1"
    api_port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    api_max_payload_bytes: PositiveInt = 262_144
    api_max_body_bytes: PositiveInt = 67_108_864
    api_max_bodies_bytes: PositiveInt = 268_435_456
    api_max_page_bytes: PositiveInt = 4_194_304
    api_shutdown_seconds: PositiveInt = 15

    submit_queue_tasks: PositiveInt = 20_000
    submit_queue_bytes: PositiveInt = 134_217_728
    submit_wait_seconds: Duration = 10.0

    topology_interval_seconds: Duration = 30.0
    scheduler_interval_seconds: Duration = 1.0
    rescue_interval_seconds: Duration = 1.0
    rescue_overdue_seconds: Duration = 60.0
    reconcile_interval_seconds: Duration = 10.0
    reconcile_after_seconds: Duration = 30.0
    prune_interval_seconds: Duration = 60.0
    retention_succeeded_seconds: Retention = 604_800.0
    retention_failed_seconds: Retention = 7_776_000.0
    retention_tasks_per_second: Annotated[float, Field(gt=0, le=1_000_000)] = 2_000.0

    http_allow_private_addresses: bool = False
    http_max_response_bytes: PositiveInt = 65_536

    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_summary_seconds: Duration = 30.0

    health_file: Path | None = None

    @model_validator(mode="after")
    def _check_queues(self) -> Self:
        if len(set(self.queues)) < len(self.queues):
            raise ValueError("QUEUES names a queue twice")
        for work_queue, _ in self.worker_queues:
            if work_queue.queue not in self.queues:
                known = ", ".join(self.queues)
                raise ValueError(f"WORKER_QUEUES names {work_queue}, but QUEUES lists only: {known}")
        if self.worker_lease_renew_seconds * 2 > self.worker_lease_seconds:
            raise ValueError("WORKER_LEASE_SECONDS must be at least twice WORKER_LEASE_RENEW_SECONDS")
        if self.api_max_bodies_bytes < self.api_max_body_bytes:
            raise ValueError("API_MAX_BODIES_BYTES must be at least API_MAX_BODY_BYTES")
        names = [work_queue for work_queue, _ in self.worker_queues]
        if len(set(names)) < len(names):
            raise ValueError("WORKER_QUEUES names a work queue twice")
        if len({weight is None for _, weight in self.worker_queues}) > 1:
            raise ValueError("WORKER_QUEUES gives some queues a weight: give all of them one, or none")
        return self

    @property
    def work_queues(self) -> tuple[WorkQueue, ...]:
        """Every work queue there is: each of QUEUES with each priority."""
        return tuple(WorkQueue(queue, priority) for queue in self.queues for priority in Priority)


def describe(error: ValidationError) -> list[str]:
    """One line per bad setting: its name as it stands in the environment, what is wrong, and what was given."""
    lines = []
    for flaw in error.errors(include_url=False):
        name = str(flaw["loc"][0]).upper() if flaw["loc"] else ""
        given = "" if not name or "PASSWORD" in name or "URL" in name else f" (given: {flaw['input']!r})"
        message = flaw["msg"].removeprefix("Value error, ")
        lines.append(f"{name}: {message}{given}" if name else message)
    return lines


def load_settings() -> Settings:
    """The settings of this process. A bad one ends the process with status 2 and a line per field on stderr."""
    try:
        return Settings()
    except ValidationError as error:
        for line in describe(error):
            print(line, file=sys.stderr)
        sys.exit(2)
