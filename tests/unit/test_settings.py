"""Settings, as an operator gets them wrong."""

import pytest
from pydantic import ValidationError

from aftercommit.core.queues import Priority, WorkQueuePattern
from aftercommit.core.settings import Settings, describe, load_settings

GIVEN = """
    POSTGRES_DB POSTGRES_USER POSTGRES_PASSWORD POSTGRES_HOST POSTGRES_PORT RABBITMQ_URL WORKER_QUEUES WORKER_PREFETCH
    MAX_RETRIES RETRY_DELAYS_SECONDS OUTBOX_POLL_INTERVAL OUTBOX_BATCH_SIZE OUTBOX_MAX_ATTEMPTS
"""


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the one who runs the tests counts."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setitem(Settings.model_config, "env_file", None)


def complaints(monkeypatch: pytest.MonkeyPatch, **environment: str) -> list[str]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    return describe(caught.value)


def test_names_that_were_given_are_settings() -> None:
    assert {name.upper() for name in Settings.model_fields} >= set(GIVEN.split())


def test_defaults_hold_when_the_environment_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_RETRIES", "")
    settings = Settings()
    assert settings.max_retries == 3
    assert settings.retry_delays_seconds == (5, 30, 120)
    assert [str(pattern) for pattern, _ in settings.worker_queues] == ["tasks.high", "tasks.medium", "tasks.low"]


def test_lists_are_read_when_they_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUES", "tasks, emails,")
    monkeypatch.setenv("RETRY_DELAYS_SECONDS", "1, 2,3")
    monkeypatch.setenv("WORKER_QUEUES", "emails.high:6, tasks.low:1, reports:2, *.high:1, *:1")
    monkeypatch.setenv("WORKER_MODULES", "orders.tasks, mail.tasks")
    settings = Settings()
    assert settings.queues == ("tasks", "emails")
    assert settings.retry_delays_seconds == (1, 2, 3)
    assert settings.worker_queues == (
        (WorkQueuePattern("emails", Priority.HIGH), 6),
        (WorkQueuePattern("tasks", Priority.LOW), 1),
        (WorkQueuePattern("reports", None), 2),
        (WorkQueuePattern(None, Priority.HIGH), 1),
        (WorkQueuePattern(None, None), 1),
    )
    assert settings.worker_modules == ("orders.tasks", "mail.tasks")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("POSTGRES_PORT", "0", "greater than or equal to 1"),
        ("POSTGRES_PORT", "x", "valid integer"),
        ("POSTGRES_POOL_SIZE", "0", "greater than"),
        ("RABBITMQ_URL", "localhost:5672", "pattern"),
        ("RABBITMQ_URL", "amqp://user:word@host:port/", "is not scheme://"),
        ("RABBITMQ_MANAGEMENT_URL", "http://[::1", "is not scheme://"),
        ("QUEUES", "Tasks", "'Tasks' is not a queue name"),
        ("QUEUES", "a.b", "'a.b' is not a queue name"),
        ("QUEUES", ",", "at least 1 item"),
        ("MAX_RETRIES", "-1", "greater than or equal to 0"),
        ("MAX_RETRIES", "2.5", "valid integer"),
        ("RETRY_DELAYS_SECONDS", "5,0", "greater than or equal to 1"),
        ("RETRY_DELAYS_SECONDS", "5;30", "valid integer"),
        ("RETRY_DELAYS_SECONDS", "86401", "less than or equal to 86400"),
        ("RETRY_DELAYS_SECONDS", ",", "at least 1 item"),
        ("TASK_TIMEOUT_SECONDS", "0", "greater than or equal to 0.01"),
        ("TASK_TIMEOUT_SECONDS", "inf", "less than or equal to 604800"),
        ("TASK_TIMEOUT_SECONDS", "nan", "less than or equal to 604800"),
        ("OUTBOX_POLL_INTERVAL", "never", "valid number"),
        ("OUTBOX_POLL_INTERVAL", "0.001", "greater than or equal to 0.01"),
        ("OUTBOX_CONFIRM_SECONDS", "26", "less than or equal to 25"),
        ("OUTBOX_CONFIRM_SECONDS", "0.001", "greater than or equal to 0.1"),
        ("OUTBOX_BATCH_SIZE", "0", "greater than or equal to 1"),
        ("OUTBOX_MAX_ATTEMPTS", "0", "greater than or equal to 1"),
        ("WORKER_QUEUES", "Tasks", "'Tasks' is not a queue name"),
        ("WORKER_QUEUES", "*a", "'*a' is not a queue name"),
        (
            "WORKER_QUEUES",
            "tasks.urgent",
            "'tasks.urgent' names no work queues: write <queue>.<high",
        ),
        ("WORKER_QUEUES", "tasks.high:0", "the weight of 'tasks.high:0' is not a whole number above 0"),
        ("WORKER_QUEUES", "tasks.high:-1", "the weight of"),
        ("WORKER_QUEUES", "tasks.high:", "the weight of"),
        ("WORKER_QUEUES", "tasks.high:1.5", "the weight of"),
        ("WORKER_PREFETCH", "65536", "less than or equal to 65535"),
        ("WORKER_CONCURRENCY", "0", "greater than or equal to 1"),
        ("WORKER_MODULES", "shop/tasks.py", "write shop.tasks for shop/tasks.py"),
        ("WORKER_MODULES", "shop.py", "'shop.py' is not the name of a module"),
        ("WORKER_LEASE_SECONDS", "0.001", "greater than or equal to 1"),
        ("WORKER_LEASE_SECONDS", "3601", "less than or equal to 3600"),
        ("WORKER_LEASE_RENEW_SECONDS", "0.01", "greater than or equal to 0.1"),
        ("WORKER_HAND_BACK_SECONDS", "1800", "less than or equal to 900"),
        ("WORKER_MAX_RESULT_BYTES", "1000", "greater than or equal to 1024"),
        ("WORKER_MAX_RESULT_BYTES", "1073741824", "less than or equal to 67108864"),
        ("API_PORT", "65536", "less than or equal to 65535"),
        ("API_MAX_PAYLOAD_BYTES", "-1", "greater than or equal to 1"),
        ("API_MAX_PAYLOAD_BYTES", "67108865", "less than or equal to 67108864"),
        ("API_MAX_BODY_BYTES", "1073741824", "less than or equal to 536870912"),
        ("API_SHUTDOWN_SECONDS", "100000", "less than or equal to 3600"),
        ("HTTP_ALLOW_PRIVATE_ADDRESSES", "maybe", "valid boolean"),
        ("LOG_FORMAT", "xml", "'json' or 'console'"),
        ("LOG_LEVEL", "loud", "'debug'"),
    ],
)
def test_line_names_the_setting_and_what_is_wrong_when_one_is_bad(
    name: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [line] = complaints(monkeypatch, **{name: value})
    assert line.startswith(f"{name}: ")
    assert told in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"WORKER_QUEUES": "tasks,tasks.*"}, "WORKER_QUEUES names a work queue twice"),
        ({"WORKER_QUEUES": "tasks.high,tasks.high"}, "WORKER_QUEUES names a work queue twice"),
        ({"WORKER_QUEUES": "tasks.high:6,tasks.low"}, "WORKER_QUEUES gives some queues a weight"),
        ({"QUEUES": "tasks,tasks"}, "QUEUES names a queue twice"),
        (
            {"WORKER_LEASE_SECONDS": "5"},
            "WORKER_LEASE_SECONDS (5) must be at least twice WORKER_LEASE_RENEW_SECONDS (3)",
        ),
        (
            {"API_MAX_BODY_BYTES": "1000"},
            "API_MAX_PAYLOAD_BYTES (262144) must be at most API_MAX_BODY_BYTES (1000)",
        ),
        (
            {"API_MAX_BODIES_BYTES": "1000000"},
            "API_MAX_BODIES_BYTES (1000000) must be at least API_MAX_BODY_BYTES (67108864)",
        ),
        (
            {"HTTP_MAX_RESPONSE_BYTES": "2048", "WORKER_MAX_RESULT_BYTES": "2048"},
            "HTTP_MAX_RESPONSE_BYTES (2048) must be below WORKER_MAX_RESULT_BYTES (2048)",
        ),
        (
            {"RECONCILE_AFTER_SECONDS": "2", "WORKER_HAND_BACK_SECONDS": "2"},
            "RECONCILE_AFTER_SECONDS (2) must be above WORKER_HAND_BACK_SECONDS (2)",
        ),
    ],
)
def test_line_names_the_settings_when_they_do_not_fit_together(
    environment: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [line] = complaints(monkeypatch, **environment)
    assert line.startswith(told)


def test_setting_of_another_role_is_not_asked_for_when_only_one_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECONCILE_AFTER_SECONDS", "2")
    assert Settings().reconcile_after_seconds < Settings().worker_hand_back_seconds


def test_each_broken_rule_has_its_line_when_several_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = complaints(monkeypatch, API_MAX_BODY_BYTES="1", WORKER_LEASE_SECONDS="1", WORKER_QUEUES="tasks,tasks.*")
    assert [line.partition(" ")[0] for line in lines] == [
        "WORKER_QUEUES",
        "WORKER_LEASE_SECONDS",
        "API_MAX_PAYLOAD_BYTES",
    ]


def test_setting_has_one_line_when_several_of_its_items_are_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    [line] = complaints(monkeypatch, RETRY_DELAYS_SECONDS="0,5,-1")
    assert line.startswith("RETRY_DELAYS_SECONDS: ")


def test_each_bad_setting_has_its_line_when_several_are_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = complaints(monkeypatch, POSTGRES_PORT="x", WORKER_PREFETCH="0", LOG_LEVEL="loud")
    assert [line.partition(":")[0] for line in lines] == ["POSTGRES_PORT", "WORKER_PREFETCH", "LOG_LEVEL"]


@pytest.mark.parametrize(
    "url", ["http://user:hunter2@host/", "amqp://user:hunter2@host:x/", "amqp://user:hunter2/x@h/"]
)
def test_secret_is_not_shown_when_its_setting_is_bad(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    [line] = complaints(monkeypatch, RABBITMQ_URL=url, POSTGRES_PASSWORD="hunter2")
    assert "hunter2" not in line


def test_process_ends_with_status_2_and_no_traceback_when_a_setting_is_bad(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("API_PORT", "http")
    with pytest.raises(SystemExit) as caught:
        load_settings()
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("API_PORT: ")
    assert printed.err.endswith("(given: 'http')\n")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().max_retries = 5  # type: ignore[misc]  # what the test is about
