"""Task types that recur, for a worker of its own."""

from typing import Any

from aftercommit import Context, Cron, Every, task


@task("test.recurring", schedule=Every(seconds=1, name="recurring", payload={"n": 1}, catch_up="all"))
async def recurring(n: int, context: Context) -> dict[str, Any]:
    assert context.schedule is not None
    return {"n": n, "schedule": context.schedule.name, "tick": context.schedule.tick.isoformat()}


@task("test.yearly", schedule=Cron("0 7 24 12 *", zone="Europe/Berlin", overlap="skip"))
async def yearly() -> None:
    raise AssertionError("it is not Christmas")
