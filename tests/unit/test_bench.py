"""The pure parts of the benchmarks."""

import threading
from pathlib import Path
from typing import Any

import pytest

from aftercommit.devstack.servers import Servers
from bench import comparison, document, figures, table
from bench.__main__ import parse
from bench.figures import Figure, at_least, at_most
from bench.ground import Ground
from bench.http import Connection, encode_request
from bench.peers.order import NOOP, SUSTAINED, WARM_UP, Counter, Order
from bench.planning import with_peers
from bench.progress import first_id, id_milliseconds
from bench.results import Description, Results, Series
from bench.sizes import SIZES

RATE = Figure("rate", "full path", "tasks/s", at_least(15_000))


def make_results(**changes: Any) -> Results:
    return Results(
        **{
            "started_at": "2026-11-22T02:00:00+00:00",
            "command": "python -m bench",
            "commit": "c64bcff81b",
            "size": "full",
            "sizes": {"drain": 1},
            "settings": {},
            "machine": {"cores": "2"},
            "versions": {"PostgreSQL": "15.20"},
            "postgres": {"fsync": "on"},
            "repeats": 5,
            "descriptions": {"full_path": Description("everything at once", (RATE,), {"WORKER_PREFETCH": "500"})},
            "peer_versions": {"celery": "5.7.0"},
            "series": {
                "full_path": Series(samples=[{"rate": 9_000.0}, {"rate": 20_000.0}, {"rate": 18_000.0}]),
                f"peer.Celery.{SUSTAINED}": Series(samples=[{"rate": 6_000.0}]),
                f"peer.Celery.{NOOP}": Series(samples=[{"rate": 8_000.0}]),
                "peer.Celery.sleep": Series(
                    failures=["Died: worker ended with 1:\nTraceback\n  | KeyError: 'x'\n  +----"]
                ),
            },
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (12_345.6, "12,300"), (999.6, "1,000"), (3.456, "3.46"), (20.0, "20"), (0.01234, "0.0123")],
)
def test_show_keeps_three_digits(value: float, shown: str) -> None:
    assert figures.show(value) == shown


@pytest.mark.parametrize(("percent", "expected"), [(50, 5), (99, 10), (100, 10), (0, 1)])
def test_percentile_is_a_sample_of_its_rank(percent: float, expected: float) -> None:
    assert figures.percentile([7, 3, 10, 1, 5, 2, 9, 4, 8, 6], percent) == expected


def test_target_is_met_on_its_side_of_the_bound() -> None:
    assert at_least(3).met(3)
    assert not at_least(3).met(2.9)
    assert at_most(10).met(10)
    assert not at_most(10).met(10.1)
    assert str(at_most(10)) == "≤ 10"


def test_row_shows_median_spread_and_target() -> None:
    assert table.rows(make_results()) == [
        ("full path", "18,000 tasks/s", "9,000 to 20,000", "≥ 15,000", "yes"),
    ]


def test_plain_table_has_even_columns() -> None:
    assert table.plain(("a", "bb"), [("ccc", "d")]) == "a    bb\n---  --\nccc  d"


def test_ratios_are_of_medians_and_failed_peers_stay_listed() -> None:
    rows = {row[0]: row for row in comparison.throughput_rows(make_results())}
    assert rows["Aftercommit"][1] == "18,000"
    assert rows["Celery"] == ("Celery", "6,000", "3 ×", "8,000", "", "failed", "")
    assert "pgqueuer" not in rows


def test_results_are_the_same_when_read_again(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    make_results().write(file)
    again = Results.read(file)
    again.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == file.read_text()
    assert again.descriptions["full_path"].figures == (RATE,)
    assert '"medians": {\n        "rate": 18000.0' in file.read_text()


def test_document_keeps_everything_but_the_figures() -> None:
    page = f"# Title\n\n{document.BEGIN}\nold\n{document.END}\n\nThe end.\n"
    written = document.replaced(page, document.render(make_results(), picture="benchmarks.svg"))
    assert written.startswith(f"# Title\n\n{document.BEGIN}\n")
    assert written.endswith(f"{document.END}\n\nThe end.\n")
    assert "old" not in written
    assert "| Celery 5.7.0 | The message, durable" in written
    assert "- peer.Celery.sleep (0 other repeats succeeded): Died: worker ended with 1: … KeyError: 'x'" in written
    assert "it shows that everything runs" not in written


def test_document_tells_the_settings_that_were_not_the_defaults() -> None:
    text = document.render(make_results(), picture="benchmarks.svg")
    assert "| one worker process; full_path: `WORKER_PREFETCH=500`, else the defaults |" in text
    assert "- **full_path**: everything at once. Settings: `WORKER_PREFETCH=500`, else the defaults." in text
    assert "| settings of every scenario | the defaults |" in text
    changed = document.render(make_results(settings={"QUEUES": "a"}), picture="benchmarks.svg")
    assert "| settings of every scenario | `QUEUES=a`, else the defaults |" in changed


def test_ground_is_tuned_for_a_scenario_and_the_settings_of_the_run_win(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    ground = Ground(servers=servers, folder=tmp_path, sizes=SIZES["smoke"], settings={"WORKER_PREFETCH": "1"})
    tuned = ground.tuned({"WORKER_PREFETCH": "2", "WORKER_CONCURRENCY": "3"})
    assert tuned.settings == {"WORKER_PREFETCH": "1", "WORKER_CONCURRENCY": "3"}


def test_document_warns_when_the_run_was_small() -> None:
    text = document.render(make_results(size="quick", repeats=1), picture="benchmarks.svg")
    assert "A quick run with 1 repeat(s)" in text


def test_document_is_refused_when_it_has_no_place_for_figures() -> None:
    with pytest.raises(ValueError, match="the page lacks"):
        document.replaced("# Title\n", "figures")


def test_the_page_of_this_repository_has_a_place_for_figures() -> None:
    page = Path(__file__).parents[2] / "documents" / "benchmarks.md"
    assert "figures" in document.replaced(page.read_text(), "figures")


def test_sizes_change_when_told() -> None:
    assert SIZES["quick"].changed(["drain=5_000"]).drain == 5_000
    with pytest.raises(ValueError, match="'drane' is no size"):
        SIZES["quick"].changed(["drane=5"])


def test_peers_run_unless_scenarios_are_chosen() -> None:
    assert with_peers(parse([]))
    assert not with_peers(parse(["--scenario", "drain"]))
    assert with_peers(parse(["--scenario", "drain", "--peers"]))
    assert not with_peers(parse(["--no-peers"]))
    assert with_peers(parse(["--peer", "pgqueuer"]))


def test_first_id_sorts_before_all_ids_of_its_millisecond() -> None:
    moment = 1_795_312_000.123
    assert id_milliseconds(first_id(moment)) == 1_795_312_000_123
    assert first_id(moment) < first_id(moment + 0.002)


def test_stamped_request_has_the_length_of_what_is_sent() -> None:
    request = encode_request("127.0.0.1", 80, "/v1/tasks", '{"sent_at": %.6f}', stamped=True) % 1_795_312_000.5
    head, _, body = request.partition(b"\r\n\r\n")
    assert body == b'{"sent_at": 1795312000.500000}'
    assert f"Content-Length: {len(body)}".encode() in head


def test_answers_are_counted_however_they_are_cut() -> None:
    answers: list[int] = []
    lost: list[Exception] = []
    connection = Connection(
        on_answer=lambda _, status: answers.append(status), on_lost=lambda _, error: lost.append(error)
    )
    answer = b"HTTP/1.1 201 Created\r\ncontent-length: 4\r\n\r\nbody"
    for byte in answer:
        connection.data_received(bytes([byte]))
    connection.data_received(b"HTTP/1.1 422 No\r\nContent-Length: 0\r\n\r\n")
    assert answers == [201, 422]
    assert not lost


def test_counter_tells_when_it_is_warm_and_the_first_and_the_last_when_threads_share_it(tmp_path: Path) -> None:
    order = Order("amqp://", "postgresql://", 400, NOOP, tmp_path)
    counter = Counter(order)

    def run() -> None:
        for _ in range(100):
            counter.ran()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, warm, last = (float(file.read_text()) for file in (order.first, order.warm, order.last))
    assert first <= warm <= last
    assert {file.name for file in tmp_path.iterdir()} == {"first", "warm", "last"}


def test_batches_come_to_all_tasks_when_the_worker_waits() -> None:
    order = Order("amqp://", "postgresql://", 2_500, NOOP, Path("nowhere"))
    assert list(order.batches(1_000)) == [1_000, 1_000, 500]
    assert order.measured == 2_500


def test_batches_go_on_when_told_to_while_the_worker_works(tmp_path: Path) -> None:
    order = Order("amqp://", "postgresql://", 1_000 + WARM_UP, SUSTAINED, tmp_path)
    batches = order.batches(600)
    assert [next(batches) for _ in range(WARM_UP)] == [1] * WARM_UP
    assert not order.ready.exists()
    order.go.touch()
    assert list(batches) == [600, 400]
    assert order.measured == 1_000
    assert float(order.ready.read_text()) <= float(order.begun.read_text())


def test_order_survives_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    order = Order("amqp://host/vhost", "postgresql://host/name", 7, NOOP, tmp_path)
    for name, value in order.environment().items():
        monkeypatch.setenv(name, value)
    assert Order.read() == order
