"""When a parked task is sent out again."""

import pytest

from aftercommit.server.maintenance.parked_sweeper import wait_seconds


@pytest.mark.parametrize(("looks", "seconds"), [(1, 10), (2, 20), (3, 40), (4, 60), (10_000, 60)])
def test_waits_double_up_to_a_minute(looks: int, seconds: float) -> None:
    assert wait_seconds(looks) == seconds
