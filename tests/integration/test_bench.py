"""The benchmarks run: the smallest scenario at its smallest size. No figure is looked at."""

import functools
from pathlib import Path

import pytest

from aftercommit.devstack.servers import Servers
from bench.ground import Ground
from bench.results import Description, Results
from bench.run import Job, run
from bench.scenarios import drain
from bench.sizes import SIZES


@pytest.fixture
def results() -> Results:
    return Results(
        started_at="",
        command="",
        commit="",
        size="smoke",
        sizes={},
        settings={},
        machine={},
        versions={},
        postgres={},
        peer_versions={},
        repeats=1,
        descriptions={"drain": Description(drain.SCENARIO.how, drain.SCENARIO.figures)},
    )


async def test_drain_is_measured(servers: Servers, tmp_path: Path, results: Results) -> None:
    ground = Ground(servers=servers, folder=tmp_path, sizes=SIZES["smoke"], settings={})
    await ground.prepare()
    await run([Job("drain", functools.partial(drain.measure, ground))], repeats=1, results=results)
    assert results.failures() == []
    assert len(results.of("drain").values("rate")) == 1
