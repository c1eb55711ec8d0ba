"""An operator's retry. A task with a unique key takes it again, unless another task holds it by now."""

from uuid import UUID

from aftercommit.core.errors import UniqueConflict
from aftercommit.db import steering, unique_keys
from aftercommit.db.database import Database, Fetch


async def resubmit(database: Database, task_id: UUID, *, payload: str | None = None) -> bool:
    """Send a final task out again with all its retries before it, and with ``payload``, JSON text, if one is given;
    whether it was final. Raises UniqueConflict, and what ``Database.transaction`` raises."""
    if await steering.resubmit(database.fetch, task_id, payload=payload):
        return True
    async with database.transaction(lock_seconds=unique_keys.LOCK_SECONDS) as fetch:
        done, holder = await resubmit_unique(fetch, task_id, payload)
    if holder is not None:
        raise UniqueConflict(f"Task {holder} holds the unique key of task {task_id}. It can be retried once that ends.")
    return done


async def resubmit_unique(fetch: Fetch, task_id: UUID, payload: str | None) -> tuple[bool, UUID | None]:
    """The same in a transaction of the caller's, for a task with a unique key: whether it was done, or else which other
    task holds the key."""
    key = await unique_keys.lock_own(fetch, task_id)
    if key is None:
        return False, None
    holder = (await unique_keys.find(fetch, [key])).get(key)
    if holder is not None and holder.task_id != task_id:
        return False, holder.task_id
    done = await steering.resubmit(fetch, task_id, payload=payload, key_locked=True)
    if done:
        await unique_keys.take_own(fetch, task_id)
    return done, None
