"""The fence of the record statement."""

from aftercommit.core import failures
from aftercommit.core.outcomes import Outcome
from aftercommit.core.states import Event
from aftercommit.db import record
from aftercommit.db.database import DatabaseConnection
from tests.integration.service import Service


async def test_outcome_of_an_earlier_attempt_is_refused_beside_that_of_the_current_one(service: Service) -> None:
    """A worker that lost its lease may hold the outcomes of two attempts of one task, and write them together."""
    api = await service.api()
    task = await api.submit("echo")
    (row,) = await service.query(
        "UPDATE aftercommit.tasks SET status = 'running', attempt = 2, worker = 'new' RETURNING id"
    )
    late = Outcome(task_id=row.id, attempt=1, worker="old", ending=Event.SUCCEED, result='"late"')
    current = Outcome(
        task_id=row.id, attempt=2, worker="new", ending=Event.RELEASE, error=failures.dump("Released", "stopped")
    )
    async with DatabaseConnection(service.settings, application="test") as link:
        taken = await record.record(link.fetch, [late, current])
    assert taken == {(row.id, 2): Event.RELEASE}
    assert (await api.get(task["id"]))["status"] == "queued"
    assert [attempt["outcome"] for attempt in await api.attempts(task["id"])] == ["released"]
