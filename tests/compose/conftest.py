"""One stack for all tests of this folder. Each leaves it as it was: healthy, with three workers."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.compose.stack import Stack

WORKERS = 3


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    started = Stack(
        tmp_path_factory.mktemp("clone"),
        POSTGRES_PASSWORD=uuid4().hex,
        RABBITMQ_PASSWORD=uuid4().hex,
        WORKER_MODULES="slow",
        WORKER_CONCURRENCY="10",
        WORKER_SHUTDOWN_SECONDS="3",
        RETRY_DELAYS_SECONDS="1,2",
    )
    try:
        started.compose("build")
        started.up(worker=WORKERS)
        yield started
    except BaseException:
        started.show_logs()
        raise
    finally:
        started.remove()


@pytest.fixture
def whole(stack: Stack) -> Iterator[Stack]:
    """For a test that stops or replaces containers."""
    yield stack
    stack.up(worker=WORKERS)


@pytest.fixture
def tag() -> str:
    """A tag of this test's own."""
    return f"test:{uuid4().hex}"


@pytest.fixture(autouse=True)
def logs_of_a_failure(request: pytest.FixtureRequest, stack: Stack) -> Iterator[None]:
    """Prints what the containers said while a test failed."""
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        stack.show_logs()
