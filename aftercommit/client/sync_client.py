"""The client that blocks. What it can ask is in the modules of calls; it only sends."""

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx
from tenacity import Retrying

from aftercommit.client import queue_calls, schedule_calls, service_calls, task_calls
from aftercommit.client.batches import Batcher
from aftercommit.client.call import Call, Page
from aftercommit.client.endpoint import described
from aftercommit.client.results import SubmittedTask, Task
from aftercommit.client.target import Target
from aftercommit.client.task_calls import TaskId
from aftercommit.client.tries import Tries
from aftercommit.client.waiting import Waiting, result_of
from aftercommit.task_request import TaskRequest

P = ParamSpec("P")
T = TypeVar("T")


def sends(build: Callable[P, Call[T]]) -> Callable[Concatenate["Client", P], T]:
    """A method that sends the call that ``build`` makes of its arguments."""

    def method(client: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return client._send(build(*args, **kwargs))

    return described(method, build)


def lists(build: Callable[P, Call[Page[T]]]) -> Callable[Concatenate["Client", P], Iterator[T]]:
    """A method that asks for the pages from the one that ``build`` makes the call for."""

    def method(client: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return client._pages(build(*args, **kwargs))

    return described(method, build)


class Client:
    """Calls a service. ``url`` and ``api_key`` are AFTERCOMMIT_URL and AFTERCOMMIT_API_KEY where they are not given.

    A call takes up to ``timeout`` seconds, in tries of up to ``try_timeout`` each; what it raises then is
    ServiceUnavailable. ``http_client`` is for TLS, proxies and the like; it is yours to close. One client keeps
    connections open and serves any number of threads. Raises ValueError for a URL or key that cannot be.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        try_timeout: float = 10.0,
        http_client: httpx.Client | None = None,
    ) -> None:
        self._target = Target.read(url, api_key=api_key, timeout=timeout, try_timeout=try_timeout)
        self._owns_http = http_client is None
        self._http = httpx.Client() if http_client is None else http_client

    submit = sends(task_calls.submit)
    submit_batch = sends(task_calls.submit_batch)
    get_task = sends(task_calls.get_task)
    list_tasks = lists(task_calls.list_tasks)
    list_attempts = sends(task_calls.list_attempts)
    cancel_task = sends(task_calls.cancel_task)
    reschedule_task = sends(task_calls.reschedule_task)
    run_task_now = sends(task_calls.run_task_now)
    retry_task = sends(task_calls.retry_task)
    complete_task = sends(task_calls.complete_task)
    fail_task = sends(task_calls.fail_task)

    create_schedule = sends(schedule_calls.create_schedule)
    replace_schedule = sends(schedule_calls.replace_schedule)
    get_schedule = sends(schedule_calls.get_schedule)
    list_schedules = lists(schedule_calls.list_schedules)
    list_schedule_runs = lists(schedule_calls.list_schedule_runs)
    pause_schedule = sends(schedule_calls.pause_schedule)
    resume_schedule = sends(schedule_calls.resume_schedule)
    trigger_schedule = sends(schedule_calls.trigger_schedule)
    backfill_schedule = sends(schedule_calls.backfill_schedule)
    delete_schedule = sends(schedule_calls.delete_schedule)

    list_types = lists(service_calls.list_types)
    get_type = sends(service_calls.get_type)
    list_queues = sends(queue_calls.list_queues)
    get_queue = sends(queue_calls.get_queue)
    put_queue = sends(queue_calls.put_queue)
    delete_queue = sends(queue_calls.delete_queue)
    pause_queue = sends(queue_calls.pause_queue)
    resume_queue = sends(queue_calls.resume_queue)
    purge_queue = sends(queue_calls.purge_queue)
    get_purge = sends(queue_calls.get_purge)
    list_workers = lists(service_calls.list_workers)
    get_worker = sends(service_calls.get_worker)
    drain_worker = sends(service_calls.drain_worker)
    get_outbox = sends(service_calls.get_outbox)
    list_parked_rows = lists(service_calls.list_parked_rows)
    requeue = sends(service_calls.requeue)
    check_health = sends(service_calls.check_health)
    get_readiness = sends(service_calls.get_readiness)

    def submit_many(
        self, tasks: Iterable[TaskRequest], *, batch_size: int = 1_000, idempotency_key: str | None = None
    ) -> Iterator[SubmittedTask]:
        """Submit any number of tasks in batches, each in a transaction of its own, and yield them in their order.

        Nothing is sent until you iterate, and no more than a batch is held. What was yielded is stored. With an
        ``idempotency_key`` the same tasks with the same ``batch_size`` may be submitted again: none is made twice.
        Raises InvalidPayload, ApiError.
        """
        batcher = Batcher(batch_size=batch_size, idempotency_key=idempotency_key)
        for task in tasks:
            if (full := batcher.add(task)) is not None:
                yield from self._send(full)
        if (rest := batcher.rest()) is not None:
            yield from self._send(rest)

    def wait(self, task: TaskId, *, timeout: float | None = None) -> Task:
        """The task once it has ended, however it did. Raises NotFinished after ``timeout`` seconds, ApiError."""
        waiting = Waiting(timeout)
        while not waiting.is_over(found := self._send(waiting.call(task))):
            pass
        return found

    def wait_all(self, tasks: Iterable[TaskId], *, timeout: float | None = None) -> Iterator[Task]:
        """Each task, in the order given, once it has ended. Raises NotFinished when one has not, ``timeout`` seconds
        after the first was asked for, ApiError."""
        waiting = Waiting(timeout)
        for task in tasks:
            yield self.wait(task, timeout=waiting.seconds_left)

    def result(self, task: TaskId, *, timeout: float | None = None) -> Any:
        """What the handler returned, once the task has succeeded. Raises TaskNotSucceeded if it has ended in another
        way, NotFinished after ``timeout`` seconds, ApiError."""
        return result_of(self.wait(task, timeout=timeout))

    def _send(self, call: Call[T]) -> T:
        tries = self._target.tries(call)
        with tries.told():
            result: T = Retrying(**tries.options)(self._try, call, tries)
        return result

    def _try(self, call: Call[T], tries: Tries) -> T:
        return call.result(self._http.request(**self._target.request(call, tries)))

    def _pages(self, call: Call[Page[T]]) -> Iterator[T]:
        following: Call[Page[T]] | None = call
        while following is not None:
            page = self._send(following)
            yield from page.items
            following = page.following

    def close(self) -> None:
        """Close the connections. Calls after that raise RuntimeError."""
        if self._owns_http:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
