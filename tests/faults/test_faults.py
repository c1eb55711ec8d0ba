"""The short form of the fault suite: the scenarios that matter most, on some hundred tasks each. ``make faults`` runs
all of them on more."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aftercommit.devstack.servers import Servers
from tests.faults.installation import Shape
from tests.faults.run import run
from tests.faults.scenarios import SCENARIOS
from tests.long_runs import often
from tests.private_servers import private_servers

TASKS = often(700, long=1_000)
SMALL = Shape(relay=1, maintenance=1, worker=2)

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """Of this module alone: other tests' servers must live."""
    with private_servers() as (started, _):
        yield started


@pytest.mark.parametrize(
    "name",
    [
        "crash-worker-between-effect-and-record",
        "crash-worker-claim-unanswered-while-stopping",
        "broker-wiped",
        "broker-forgets",
        "database-killed",
        "database-disk-full",
        "network-silent-to-role",
        "locked-row",
        "schedules-tick",
        "roles-with-different-settings",
        "cancels-while-workers-die",
        "deadlines-while-processes-die",
        "storm",
    ],
)
async def test_account_adds_up_after(name: str, servers: Servers, tmp_path: Path) -> None:
    account = await run(SCENARIOS[name], servers=servers, folder=tmp_path, tasks=TASKS, seed=1, rate=100, shape=SMALL)
    assert not account.failures, "\n".join(account.lines())
