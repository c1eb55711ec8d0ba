"""Submits that type checkers accept, and such that they must not; each of these ends with ``# wrong``.

Nothing calls this: ``test_typed_submits.py`` has type checkers read it.
"""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any, assert_type
from uuid import UUID

from aftercommit import AsyncClient, Backoff, Client, Context, TaskRequest, task
from aftercommit.client import SubmittedTask, Task


@task("email.send", timeout_seconds=30)
async def send_email(to: str, subject: str, copies: int = 1) -> dict[str, str]:
    return {to: subject * copies}


@task("order.ship")
def ship(context: Context, order: UUID, note: str = "") -> int:
    return context.attempt


@task("order.describe")
async def describe(context: Context, order: UUID) -> dict[str, Any]:
    """mypy gives up on a context and an Any in one signature: it takes what is right, at least."""
    return {"order": order, "attempt": context.attempt}


@task("echo")
async def echo(**payload: Any) -> dict[str, Any]:
    return payload


@task("anything")
def anything(value: Any, other: object) -> None: ...


def accepted(client: Client) -> None:
    assert_type(send_email.submit(client, to="ada@example.com", subject="Hi"), SubmittedTask)
    send_email.submit(client, "ada@example.com", "Hi", copies=2)
    send_email.with_options(priority="high", delay_seconds=60, tags=["a"]).submit(client, to="ada", subject="Hi")
    send_email.with_options(run_at=datetime.now(UTC), retry=Backoff(initial_seconds=1)).request(to="a", subject="b")
    send_email.with_options(unique={"fields": ["to"], "on_conflict": "replace"}).request(to="a", subject="b")
    assert_type(ship.submit(client, order=UUID(int=7)), SubmittedTask)
    ship.submit(client, UUID(int=7), "fragile")
    assert_type(ship.request(order=UUID(int=7)), TaskRequest)
    describe.submit(client, order=UUID(int=7))
    echo.submit(client, whatever=1, it={"is": 2})
    anything.submit(client, value=1, other=2)
    assert_type(client.submit(ship.request(order=UUID(int=7)), priority="low", idempotency_key="a"), SubmittedTask)
    client.submit("email.send", {"to": "ada"}, priority="high", max_retries=3)
    assert_type(client.get_task("id", wait_seconds=3), Task)
    assert_type(client.list_tasks(status="failed", include=["error"]), Iterator[Task])
    assert_type(client.wait("id", timeout=3), Task)
    assert_type(client.submit_many([ship.request(order=UUID(int=7))]), Iterator[SubmittedTask])
    client.create_schedule("daily", ship.request(order=UUID(int=7)), cron="0 7 * * *", overlap="skip")


async def accepted_too(client: AsyncClient) -> None:
    assert_type(await send_email.submit(client, to="ada@example.com", subject="Hi"), SubmittedTask)
    assert_type(await ship.with_options(queue="mail").submit(client, order=UUID(int=7)), SubmittedTask)
    assert_type(await client.submit("email.send", {"to": "ada"}, priority="high"), SubmittedTask)
    assert_type(await client.wait("id"), Task)
    assert_type(client.list_tasks(), AsyncIterator[Task])
    assert_type(await send_email("ada", "Hi"), dict[str, str])


def refused(client: Client) -> None:
    send_email.submit(client, to=5, subject="Hi")  # wrong
    send_email.submit(client, to="ada@example.com")  # wrong
    send_email.submit(client, to="ada@example.com", subject="Hi", colour="red")  # wrong
    send_email.submit(client, "ada@example.com", "Hi", 1, 2)  # wrong
    send_email.submit(to="ada@example.com", subject="Hi")  # wrong
    send_email.submit("http://127.0.0.1:8000", to="ada@example.com", subject="Hi")  # wrong
    send_email.request(to="ada@example.com", subject=None)  # wrong
    send_email.with_options(priority="urgent")  # wrong
    send_email.with_options(colour="red")  # wrong
    send_email.with_options(tags="a")  # wrong
    send_email.with_options(unique={"keys": "a"})  # wrong
    send_email.with_options(priority="high").submit(client, to="ada@example.com")  # wrong
    ship.submit(client, order="7")  # wrong
    ship.submit(client, UUID(int=7), context=None)  # wrong
    client.submit("email.send", {"to": "ada"}, priority="urgent")  # wrong
    client.submit("email.send", {"to": "ada"}, colour="red")  # wrong
    client.submit(17)  # wrong
    client.get_task(17)  # wrong
    client.list_tasks(state="failed")  # wrong
    client.submit_many(["email.send"])  # wrong
    client.create_schedule("daily", ship.request(order=UUID(int=7)), cron=7)  # wrong


async def refused_too(client: AsyncClient) -> None:
    await send_email.submit(client, to=5, subject="Hi")  # wrong
    await client.submit("email.send", {"to": "ada"}, priority="urgent")  # wrong
    print((await send_email.submit(client, to="a", subject="Hi")).colour)  # wrong
