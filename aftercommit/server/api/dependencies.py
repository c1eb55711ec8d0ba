"""What the routes need, built once per process and handed to them by FastAPI."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from aftercommit.broker.declaration import Declarer
from aftercommit.core.settings import Settings
from aftercommit.db.database import Database
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.runtime.notifier import Notifier
from aftercommit.server.api.completion_waiters import CompletionWaiters
from aftercommit.server.api.readiness import Readiness
from aftercommit.server.api.schemas import QueuesOut
from aftercommit.server.api.shared_answer import SharedAnswer
from aftercommit.server.submission.submitter import Submitter


@dataclass(frozen=True, slots=True)
class Dependencies:
    settings: Settings
    database: Database
    notifier: Notifier
    submitter: Submitter
    waiters: CompletionWaiters
    readiness: Readiness
    known_queues: KnownQueues
    declarer: Declarer
    queues: SharedAnswer[QueuesOut]


async def _dependencies(request: Request) -> Dependencies:
    # async: FastAPI would call a sync one in a thread
    dependencies: Dependencies = request.app.state.dependencies
    return dependencies


Injected = Annotated[Dependencies, Depends(_dependencies)]
