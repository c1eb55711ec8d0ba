"""What the routes need, built once per process and handed to them by FastAPI."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from aftercommit.broker.declaration import Declarer
from aftercommit.broker.inspection import Inspector
from aftercommit.broker.management import Management
from aftercommit.core.settings import Settings
from aftercommit.db.database import Database
from aftercommit.runtime.notifier import OutboxNotifier
from aftercommit.server.api.completion_waiters import CompletionWaiters
from aftercommit.server.submission.group_commit import GroupCommit


@dataclass(frozen=True, slots=True)
class Dependencies:
    settings: Settings
    database: Database
    outbox_notifier: OutboxNotifier
    group_commit: GroupCommit
    waiters: CompletionWaiters
    inspector: Inspector
    declarer: Declarer
    management: Management | None


async def _dependencies(request: Request) -> Dependencies:
    # async: FastAPI would call a sync one in a thread
    dependencies: Dependencies = request.app.state.dependencies
    return dependencies


Injected = Annotated[Dependencies, Depends(_dependencies)]
