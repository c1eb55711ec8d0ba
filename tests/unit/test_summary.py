from structlog.testing import capture_logs

from aftercommit.core.states import Event
from aftercommit.worker.statistics import Statistics
from aftercommit.worker.summary import Summary


class Still:
    """Stands for the parts that are asked for a number."""

    taken = buffered = 0
    waiting = 3


def test_summary_tells_the_difference_and_the_counts_only_grow() -> None:
    statistics = Statistics()
    still = Still()
    summary = Summary(slots=still, fetcher=still, statistics=statistics, processes=still, transactions=still)  # type: ignore[arg-type]  # numbers are all it needs
    statistics.recorded(Event.SUCCEED)
    statistics.recorded(Event.SUCCEED)
    statistics.refused()
    with capture_logs() as lines:
        summary.tell()
        statistics.recorded(Event.SUCCEED)
        summary.tell()
    assert [line["succeed"] for line in lines] == [2, 1]
    assert [line.get("refused") for line in lines] == [1, None]
    assert lines[0]["waiting_for_transaction"] == lines[0]["waiting_for_process"] == 3
    assert statistics.outcomes == {"succeed": 3, "refused": 1}
