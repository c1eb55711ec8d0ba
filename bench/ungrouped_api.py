"""python -m bench.ungrouped_api: the API with a transaction of SQLAlchemy's for each request, to compare with."""

import runpy
from datetime import datetime
from typing import Any

from aftercommit.core.settings import load_settings
from aftercommit.db import submit
from aftercommit.db.database import Connect
from aftercommit.db.engine import create_engine, within
from aftercommit.db.submit import Submission
from aftercommit.runtime.notifier import Notifier
from aftercommit.server.relay.eager_relay import EagerRelay
from aftercommit.server.submission import group_commit, service


class Ungrouped(group_commit.GroupCommit):
    """What most services do."""

    def __init__(self, connect: Connect, notifier: Notifier, eager: EagerRelay | None = None, **limits: Any) -> None:
        super().__init__(connect, notifier, eager, **limits)
        settings = load_settings()
        self._engine = create_engine(settings, application="api", size=settings.postgres_pool_size)

    async def submit(self, submission: Submission, **_ignored: Any) -> datetime | None:
        async with self._engine.begin() as connection:
            committed = await submit.submit(within(connection), [submission])
        self._notifier.outbox()
        return committed.created_at


if __name__ == "__main__":
    setattr(service, "GroupCommit", Ungrouped)  # noqa: B010  # a name that mypy does not see assigned
    runpy.run_module("app.api.run", run_name="__main__")
