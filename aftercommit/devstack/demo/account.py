"""The account of a finished load: each line compares what must be with what is."""

from dataclasses import dataclass

from aftercommit.devstack.demo.load import MAX_RETRIES, Delivery
from aftercommit.devstack.demo.observe import FINAL, Observation
from aftercommit.devstack.demo.receiver import Receiver


@dataclass(frozen=True, slots=True)
class Line:
    text: str
    expected: object
    found: object

    @property
    def adds_up(self) -> bool:
        return self.expected == self.found


def account(
    *, planned: int, submitted: dict[str, Delivery], seen: Observation, receiver: Receiver, dead_letters_before: int
) -> list[Line]:
    """All lines; the load is accounted for when every one adds up."""
    status = {task_id: task["status"] for task_id, task in seen.tasks.items()}
    succeeded = [task_id for task_id in submitted if status.get(task_id) == "succeeded"]
    failed = [task_id for task_id in submitted if status.get(task_id) == "failed"]
    hopeless = [task_id for task_id, delivery in submitted.items() if delivery.always_fails]
    keys = {delivery.key for delivery in submitted.values()}
    return [
        Line("tasks submitted, each with an id of its own", planned, len(submitted)),
        Line("submitted tasks that reached a final state", len(submitted), _final(submitted, status)),
        Line("succeeded + failed", len(submitted), len(succeeded) + len(failed)),
        Line("tasks that exist without having been submitted", 0, len(status.keys() - submitted.keys())),
        Line(
            "succeeded tasks that the receiver answered with 2xx",
            len(succeeded),
            sum(receiver.succeeded(submitted[task_id].key) for task_id in succeeded),
        ),
        Line("requests for tasks that were never submitted", 0, len(receiver.answers.keys() - keys)),
        Line(
            "attempts recorded = requests received",
            receiver.requests,
            sum(seen.tasks[task_id]["attempt"] for task_id in submitted if task_id in seen.tasks),
        ),
        Line(
            f"hopeless tasks failed after {MAX_RETRIES + 1} attempts",
            len(hopeless),
            sum(status.get(each) == "failed" and seen.tasks[each]["attempt"] == MAX_RETRIES + 1 for each in hopeless),
        ),
        Line("outbox rows left unpublished", 0, seen.unpublished),
        Line("messages left in work and retry queues", {}, seen.undelivered),
        Line("dead letters added", len(failed), seen.dead_letters - dead_letters_before),
    ]


def _final(submitted: dict[str, Delivery], status: dict[str, str]) -> int:
    return sum(status.get(task_id) in FINAL for task_id in submitted)
