"""The load: tasks over all priorities, submitted one by one and in batches, at a steady rate, by a client that tries
again until it has its answer."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID, uuid4

import aiohttp

from tests.faults.kinds import SHARES, Kind

SUBMITS_AT_ONCE: Final = 16
LARGEST_BATCH: Final = 60
SHARE_OF_SINGLES: Final = 0.85
"""Of the requests; about 15 % of the tasks."""

SHARE_FOR_LATER: Final = 0.05
"""Of the tasks."""

REQUEST_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 180.0
LONGEST_WAIT_SECONDS: Final = 1.0


class Unanswered(Exception):
    """A request got no answer for minutes: whether it was committed is unknown."""


@dataclass(frozen=True, slots=True)
class Planned:
    kind: Kind
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One POST. Its key makes it safe to send again when the first answer was lost."""

    tasks: tuple[Planned, ...]
    single: bool
    key: str = field(default_factory=lambda: uuid4().hex)


def plan(tasks: int, rng: random.Random) -> list[Request]:
    """A load of so many tasks, the same for the same seed but for the keys."""
    return plan_of(tasks, rng, plan_task)


def plan_of(tasks: int, rng: random.Random, plan_one: Callable[[random.Random], Planned]) -> list[Request]:
    requests = []
    while tasks > 0:
        single = rng.random() < SHARE_OF_SINGLES
        size = 1 if single else min(tasks, rng.randint(2, LARGEST_BATCH))
        requests.append(Request(tuple(plan_one(rng) for _ in range(size)), single))
        tasks -= size
    return requests


def plan_task(rng: random.Random) -> Planned:
    (kind,) = rng.choices(list(SHARES), weights=list(SHARES.values()))
    payload: dict[str, Any] = {}
    body: dict[str, Any] = {"type": kind, "priority": rng.choice(("high", "medium", "low"))}
    match kind:
        case Kind.SLEEP:
            payload = {"seconds": rng.uniform(0.05, 0.2)}
        case Kind.FLAKY:
            # Through a retry queue of the broker, or through the scheduler.
            payload = {"failures": rng.randint(1, 2)} | ({"after": 0.5} if rng.random() < 0.5 else {})
        case Kind.BROKEN:
            body["max_retries"] = 1
    if rng.random() < SHARE_FOR_LATER:
        body["delay_seconds"] = rng.uniform(0.1, 3)
    return Planned(kind, body | {"payload": payload})


class Client:
    """Retries like a careful client: any answer below 500 is final, all else is asked again, of the next API."""

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str]) -> None:
        self._session = session
        self._urls = urls
        self.retries = 0
        self.refusals: Counter[bool] = Counter()
        """Answers with 503, by whether they say when to try again."""

    async def submit(self, request: Request) -> list[UUID]:
        """The ids of the tasks. Raises Unanswered."""
        path = "/v1/tasks" if request.single else "/v1/tasks/batch"
        bodies = [planned.body for planned in request.tasks]
        answer = await self._post(path, bodies[0] if request.single else {"tasks": bodies}, request.key)
        return [UUID(task["id"]) for task in ([answer] if request.single else answer["tasks"])]

    async def cancel(self, task_id: UUID) -> int:
        """The status of the answer: 200, 202 or 409. Asking again after a lost answer changes nothing. Raises
        Unanswered."""
        return (await self._ask(f"/v1/tasks/{task_id}/cancel", {"reason": "by the load"}, (200, 202, 409)))[0]

    async def _post(self, path: str, body: Any, key: str) -> Any:
        return (await self._ask(path, body, (200, 201), headers={"Idempotency-Key": key}))[1]

    async def _ask(self, path: str, body: Any, good: Sequence[int], **options: Any) -> tuple[int, Any]:
        """Status and body of an answer whose status is ``good``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ANSWER_SECONDS
        wait_seconds, turn = 0.05, random.randrange(len(self._urls))
        while loop.time() < deadline:
            url = self._urls[turn % len(self._urls)] + path
            try:
                async with self._session.post(url, json=body, **options) as response:
                    if response.status in good:
                        return response.status, await response.json()
                    self.refusals["Retry-After" in response.headers] += response.status == 503
                    if response.status < 500:
                        raise AssertionError(f"{path} answered {response.status}: {await response.text()}")
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            self.retries += 1
            turn += 1
            await asyncio.sleep(wait_seconds * random.uniform(0.5, 1))
            wait_seconds = min(wait_seconds * 2, LONGEST_WAIT_SECONDS)
        raise Unanswered(f"{path} {options}: no answer within {ANSWER_SECONDS:g} s")


class Load:
    """``submitted`` maps each acknowledged task to its kind; ``unanswered`` are requests whose fate nobody knows."""

    def __init__(self, requests: Sequence[Request], *, rate: float, at_once: int = SUBMITS_AT_ONCE) -> None:
        """``rate`` is in tasks/s; ``at_once`` requests may be under way."""
        self.requests = requests
        self._rate = rate
        self._at_once = at_once
        self.refusals: Counter[bool] = Counter()
        self._changed = asyncio.Condition()
        self.planned = sum(len(request.tasks) for request in requests)
        self.submitted: dict[UUID, Kind] = {}
        self.unanswered: list[str] = []
        self.retries = 0
        self.done = asyncio.Event()

    async def run(self, urls: Sequence[str]) -> None:
        """Submit everything, at ``rate`` tasks/s as long as the API keeps up."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        places = asyncio.Semaphore(self._at_once)
        timeout = aiohttp.ClientTimeout(REQUEST_SECONDS)
        connector = aiohttp.TCPConnector(limit=self._at_once)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
                asyncio.TaskGroup() as group,
            ):
                client = Client(session, urls)
                for request in self.requests:
                    due = max(due, loop.time() - 1) + len(request.tasks) / self._rate
                    await asyncio.sleep(max(due - loop.time(), 0))
                    await places.acquire()
                    group.create_task(self._submit(client, request)).add_done_callback(lambda _: places.release())
            self.retries, self.refusals = client.retries, client.refusals
        finally:
            self.done.set()
            await self._tell()

    async def _submit(self, client: Client, request: Request) -> None:
        try:
            ids = await client.submit(request)
        except Unanswered as error:
            self.unanswered.append(str(error))
            return
        self.submitted.update(zip(ids, (planned.kind for planned in request.tasks), strict=True))
        await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, share: float) -> None:
        """Wait until this share of the load is acknowledged, or there is no more to come."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.done.is_set() or len(self.submitted) >= share * self.planned)
