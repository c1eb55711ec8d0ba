"""What the benchmarks compare: single tasks, targets, and which jobs a command line asks for. Pure."""

from pathlib import Path
from typing import Any

import pytest

from aftercommit.devstack.servers import Servers
from bench import comparison, document, single_tasks, targets
from bench.__main__ import parse
from bench.child_process import Died
from bench.clocked import latencies
from bench.figures import Sample
from bench.ground import Ground
from bench.peers import environments, starts
from bench.peers.catalogue import PEERS
from bench.peers.environments import Environment
from bench.peers.order import LATENCY, PRIORITY
from bench.peers.peer import Server
from bench.peers.starts import Starts
from bench.planning import plan
from bench.results import Results, Series
from bench.scenarios import SCENARIOS
from bench.sizes import SIZES
from bench.systems import COMPARED, WITH_BEFORE, System

BEHIND = {"500.p50": 3_000.0, "500.p99": 5_000.0, "500.behind": 9.0, "500.cpu": 4.0}


def make_sample(p50: float, **changes: float) -> Sample:
    return {"500.p50": p50, "500.p99": p50 * 4, "500.behind": 0.01, "500.cpu": 3.0, "500.api": 1.0} | changes


def make_results(before: str = "", **series: Series) -> Results:
    return Results(
        started_at="2026-11-25T02:00:00+00:00",
        command="python -m bench",
        commit="c64bcff81b",
        size="full",
        sizes={},
        settings={},
        machine={},
        versions={},
        postgres={},
        repeats=1,
        descriptions={},
        peer_versions={},
        before=before,
        series={name.replace("__", "."): each for name, each in series.items()},
    )


def make_ground(folder: Path) -> Ground:
    return Ground(servers=Servers(folder), folder=folder, sizes=SIZES["smoke"], settings={})


def planned(folder: Path, *arguments: str) -> list[str]:
    return [job.series for job in plan(parse(list(arguments)), make_ground(folder), [])]


def test_latencies_are_of_all_tasks_sent() -> None:
    found = latencies([(0.0, 0.010), (0.1, 0.120), (0.2, 0.230)], tasks=3, rate=10, last_due_at=0.3, given_up_at=0.3)
    assert found == pytest.approx({"p50": 20, "p99": 30, "behind": 0})


def test_a_task_that_did_not_start_waited_until_it_was_given_up() -> None:
    found = latencies([(0.0, 0.010)], tasks=4, rate=10, last_due_at=0.4, given_up_at=5.4)
    assert found == pytest.approx({"p50": 5_000, "p99": 5_000, "behind": 0.3})


def test_tasks_that_started_late_are_behind() -> None:
    found = latencies([(0.0, 0.010), (0.1, 3.0)], tasks=2, rate=10, last_due_at=0.2, given_up_at=4.0)
    assert found["behind"] == pytest.approx(0.1)


def test_starts_are_read_since_a_moment_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "starts"
    assert starts.count(file) == 0
    writers = [Starts(file), Starts(file)]
    for sent_at, writer in enumerate(writers * 2):
        writer.add(float(sent_at))
    assert starts.count(file) == 4
    assert [sent_at for sent_at, _ in starts.read(file, since=2.0)] == [2.0, 3.0]


def test_a_system_that_fell_behind_or_failed_stays_listed() -> None:
    results = make_results(
        latency=Series(samples=[make_sample(4.0)]),
        peer__pgqueuer__latency=Series(samples=[BEHIND]),
        peer__Oban__latency=Series(failures=["Died: no environment"]),
    )
    rows = {row[0]: row[1:] for row in single_tasks.rows(results, 500)}
    assert rows["Aftercommit"] == ("4", "16", "3", "1", "", "", "", "", "")
    assert rows["pgqueuer"][:3] == ("fell behind: 3,000 or more", "fell behind: 5,000 or more", "4")
    assert rows["Oban"][0] == "failed"
    assert single_tasks.p50s(results, 500) == [("Aftercommit", 4.0, True)]


def test_targets_are_ratios_to_what_others_reached_in_the_same_run() -> None:
    results = make_results(
        before="d67ea7e405",
        full_path=Series(samples=[{"rate": 16_000.0}]),
        before__full_path=Series(samples=[{"rate": 12_000.0}]),
        latency=Series(samples=[make_sample(4.0)]),
        peer__pgqueuer__latency=Series(samples=[make_sample(2.0)]),
    )
    rows = [row for row in targets.rows(results) if row[0] != "single tasks at 500/s, processor time"]
    assert rows == [
        ("single tasks at 500/s, p50", "4 ms", "pgqueuer: 2", "2 ×", "≤ 1.50 ×", "no"),
        ("single tasks at 500/s, p99", "16 ms", "pgqueuer: 8", "2 ×", "≤ 1.20 ×", "no"),
        ("full path of no-op tasks", "16,000 tasks/s", "before: 12,000", "1.33 ×", "≥ 1.25 ×", "yes"),
    ]


def test_target_of_several_peers_is_the_best_of_them() -> None:
    results = make_results(
        scale=Series(samples=[{"one": 3_300.0}]),
        peer__Celery__sleep=Series(samples=[{"rate": 2_000.0}]),
        peer__Dramatiq__sleep=Series(samples=[{"rate": 3_000.0}]),
        priority=Series(samples=[{"p99": 30.0}]),
        peer__Celery__priority=Series(samples=[{"p99": 100.0}]),
        peer__Dramatiq__priority=Series(samples=[{"p99": 60.0}]),
    )
    assert [row[2:4] for row in targets.rows(results)] == [("Dramatiq: 3,000", "1.10 ×"), ("Dramatiq: 60", "0.500 ×")]


def test_every_target_names_what_is_measured() -> None:
    names = {peer.name for peer in PEERS}
    for target in targets.TARGETS:
        assert target.scenario in COMPARED
        assert set(target.beside) <= names | {"before"}
        assert "before" not in target.beside or target.scenario in WITH_BEFORE


def test_compared_scenarios_exist_and_each_has_a_peer() -> None:
    assert set(COMPARED) <= set(SCENARIOS)
    for kind in COMPARED.values():
        assert any(kind in peer.kinds for peer in PEERS)


def test_the_earlier_commit_stands_in_the_tables() -> None:
    results = make_results(before="d67ea7e405", before__latency=Series(samples=[make_sample(9.0)]))
    assert single_tasks.rows(results, 500)[0][:2] == ("before (d67ea7e405)", "9")
    text = document.render(results, picture="benchmarks.svg")
    assert "### Single tasks, 500 a second" in text
    assert "| before | d67ea7e405 |" in text


def test_tables_without_rows_are_left_out() -> None:
    assert comparison.tables(make_results()) == []


def test_what_is_compared_runs_side_by_side(tmp_path: Path) -> None:
    names = ("--scenario", "latency", "--scenario", "drain", "--peer", "pgqueuer", "--peer", "bare aio-pika")
    assert planned(tmp_path, *names, "--before", str(tmp_path)) == [
        "drain",
        "peer.pgqueuer.noop",
        "latency",
        "classic.latency",
        "before.latency",
        "peer.bare aio-pika.latency",
        "peer.pgqueuer.latency",
    ]


def test_a_peer_alone_runs_all_that_it_can(tmp_path: Path) -> None:
    assert planned(tmp_path, "--peer", "bare aio-pika") == ["peer.bare aio-pika.latency"]
    assert planned(tmp_path, "--peer", "Celery") == [f"peer.Celery.{kind}" for kind in COMPARED.values()]
    assert planned(tmp_path, "--scenario", "relay") == ["relay"]


def test_a_peer_runs_in_the_first_environment_that_has_it_whole() -> None:
    peers: dict[str, Any] = {peer.name: peer for peer in PEERS}
    old = Environment(Path("old"), {"Python": "3.11.7", "psycopg": "3", "uvloop": "1", "celery": "5"})
    new = Environment(Path("new"), {"Python": "3.12.1", "psycopg": "3", "uvloop": "1", "oban": "0.7.0"})
    assert environments.of(peers["Oban"], [old, new]).python == Path("new")
    with pytest.raises(Died, match=r"has Oban, which needs Python 3\.12 or newer, whole: oban"):
        environments.of(peers["Oban"], [old])


def test_versions_tell_a_python_that_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.python_version", lambda: "3.11.7")
    old = Environment(Path("old"), {"Python": "3.11.7", "celery": "5.7.0"})
    new = Environment(Path("new"), {"Python": "3.12.1", "celery": "5.7.0", "oban": "0.7.0"})
    found = environments.versions([old, new])
    assert (found["Python"], found["celery"], found["oban"]) == ("3.11.7", "5.7.0", "0.7.0 on Python 3.12.1")


def test_peers_that_have_priorities_run_behind_a_backlog() -> None:
    assert {peer.name for peer in PEERS if PRIORITY in peer.kinds} == {"Celery", "Dramatiq"}
    assert all(LATENCY in peer.kinds for peer in PEERS)
    assert [peer.name for peer in PEERS if Server.REDIS in peer.servers] == ["SAQ"]


def test_series_of_systems_are_named_apart() -> None:
    names = ["Aftercommit", "classic", "before", "Celery"]
    assert [System(name, name).series("latency") for name in names] == [
        "latency",
        "classic.latency",
        "before.latency",
        "peer.Celery.latency",
    ]
