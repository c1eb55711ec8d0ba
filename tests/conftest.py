"""Which servers the integration tests run on: containers where a Docker engine has the images, else ``devstack/``."""

import pytest
import structlog

from tests.integration.containers import choose

# They take minutes and the whole machine: `make test-compose` names their folder.
collect_ignore = ["compose"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--servers",
        choices=("auto", "containers", "devstack"),
        default="auto",
        help="what PostgreSQL and RabbitMQ run as; auto: containers where a Docker engine has the images",
    )


def pytest_configure() -> None:
    """Unless told otherwise, structlog draws tracebacks with all variables, which stops the event loop for seconds."""
    renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], renderer])


def pytest_report_header(config: pytest.Config) -> str:
    choice = choose(config.getoption("servers"))
    return f"servers: {'testcontainers' if choice.containers else 'devstack'} ({choice.reason})"
