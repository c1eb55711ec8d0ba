"""python -m bench.ungrouped_api: the API with a transaction of SQLAlchemy's for each request, to compare with."""

import runpy
from datetime import datetime

from app.api import app, submissions
from app.config import load_settings
from app.db import tasks
from app.db.engine import create_engine, transaction, within
from app.db.link import Connect
from app.db.signals import OutboxSignal
from app.db.tasks import Submission


class Ungrouped(submissions.Submissions):
    """What most services do."""

    def __init__(self, connect: Connect, signal: OutboxSignal) -> None:
        super().__init__(connect, signal)
        self._engine = create_engine(load_settings(), application="api")

    async def submit(self, submission: Submission) -> datetime | None:
        async with transaction(self._engine) as connection:
            created_at, _ = await tasks.submit(within(connection), [submission])
        self._signal.send()
        return created_at


if __name__ == "__main__":
    setattr(app, "Submissions", Ungrouped)  # noqa: B010  # a name that mypy does not see assigned
    runpy.run_module("app.api.run", run_name="__main__")
