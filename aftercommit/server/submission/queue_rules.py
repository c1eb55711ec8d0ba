"""What a queue says of the tasks that it takes."""

from collections.abc import Iterable, Iterator

from aftercommit.core.queues import Priority
from aftercommit.db.submit import NewTask
from aftercommit.runtime.known_queues import KnownQueues
from aftercommit.server.submission.task_input import TaskIn

Flaw = tuple[str, str]
"""A field, and what is wrong with it."""


def queue_flaws(
    task: TaskIn, name: str, queues: KnownQueues, *, priority: Priority, size: int | None
) -> Iterator[Flaw]:
    """Why the queue ``name`` does not take ``task`` with this ``priority``. ``size``: its payload's bytes, None where
    they do not matter."""
    options = queues.by_name.get(name)
    if options is None:
        yield "queue", f"there is no queue {name!r}: there {_named(queues.open_names)}"
        return
    if options.deleting:
        yield "queue", f"{name!r} is being deleted: there {_named(queues.open_names)}"
    if options.priorities is not None and priority not in options.priorities:
        yield "priority", f"{name} takes no {priority} tasks: {' and '.join(options.priorities)} only"
    if options.types is not None and task.type not in options.types:
        yield "type", f"{name} does not take {task.type!r}: it takes {', '.join(options.types)}"
    if size is not None and options.max_payload_bytes is not None and size > options.max_payload_bytes:
        yield "payload", f"has {size} bytes; max_payload_bytes of {name} allows {options.max_payload_bytes}"


def apply_defaults(tasks: Iterable[NewTask], queues: KnownQueues) -> None:
    """Give tasks that say nothing of it the retries and the timeout of their queue."""
    for task in tasks:
        if task.queue in queues.plain or (options := queues.by_name.get(task.queue)) is None:
            continue
        if task.max_retries is None:
            task.max_retries = options.max_retries
        if task.timeout_seconds is None:
            task.timeout_seconds = options.timeout_seconds
        if task.retry is None:
            task.retry = options.retry


def _named(names: list[str]) -> str:
    return f"{'is' if len(names) == 1 else 'are'} {', '.join(names)}" if names else "is none"
