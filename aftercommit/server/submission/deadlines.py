"""Whether a task can run before its deadline. Pure."""

from datetime import datetime

from aftercommit.server.submission.task_input import TaskIn


def deadline_flaw(task: TaskIn, now: datetime) -> tuple[str, str] | None:
    """The field whose deadline leaves the task no time from ``now`` (UTC) on, and what is wrong with it."""
    if task.expires_at is None and task.expires_in_seconds is None:
        return None
    field = "expires_at" if task.expires_at is not None else "expires_in_seconds"
    expires_at = task.expires_at if task.expires_in is None else now + task.expires_in
    assert expires_at is not None
    if expires_at <= now:
        return field, "has passed: a task with this deadline could never run"
    starts_at = task.run_at if task.delay is None else now + task.delay
    if starts_at is not None and expires_at <= starts_at:
        start = "run_at" if task.delay is None else "delay_seconds"
        return field, f"lies before the start that {start} gives: the task could never run"
    return None
