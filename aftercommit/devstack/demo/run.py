"""The demo from start to exit code."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path

import aiohttp
from rich.console import Console

from aftercommit.devstack.demo.account import Line, account
from aftercommit.devstack.demo.client import Client
from aftercommit.devstack.demo.load import MAX_RETRIES, Load
from aftercommit.devstack.demo.observe import DEAD_LETTERS, Observation, Observer, queue_depths
from aftercommit.devstack.demo.progress import Progress
from aftercommit.devstack.demo.receiver import Receiver
from aftercommit.devstack.demo.report import print_account, print_dead_letter, print_outcome
from aftercommit.devstack.failure import DevstackError
from aftercommit.devstack.stack import Project, Stack, data_folder
from aftercommit.devstack.stop_request import StopRequest

SETTINGS = {
    "LOG_FORMAT": "console",
    "RETRY_DELAYS_SECONDS": "1,2,4",
    "MAX_RETRIES": str(MAX_RETRIES),
    "HTTP_ALLOW_PRIVATE_ADDRESSES": "true",  # the receiver is on this machine
}
LONGEST_START_SECONDS = 60
INTERRUPTED = 130


class Interrupted(Exception):
    """The user asked to stop."""


class RoleLogs:
    """A file per role, begun anew with each demo."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = contextlib.ExitStack()
        self._writers: dict[str, Callable[[str], object]] = {}

    def line(self, name: str, text: str) -> None:
        if name not in self._writers:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self._files.enter_context((self.folder / f"{name}.log").open("w", buffering=1))
            self._writers[name] = file.write
        self._writers[name](text + "\n")

    def close(self) -> None:
        self._files.close()


def demo(folder: Path) -> int:
    """0 when the account adds up, 1 when it does not, 130 when interrupted."""
    console = Console()
    if not console.is_terminal:
        console.width = 132
    stop_request = StopRequest()
    logs = RoleLogs(data_folder(folder) / "logs")
    stack = Stack(Project(folder=folder, settings=SETTINGS, modules=list), sink=logs.line)
    try:
        console.print(f"PostgreSQL and RabbitMQ start, with their data in {stack.data}", style="dim", highlight=False)
        stack.start()
        _wait_until_ready(stack, stop_request, logs)
        console.print(f"ready: {stack.url}, logs in {logs.folder}", highlight=False)
        lines = asyncio.run(_until_stopped(stack, console, stop_request))
    except Interrupted:
        return INTERRUPTED
    except DevstackError:
        if stop_request.made:
            return INTERRUPTED
        raise
    finally:
        stack.stop(impatient=stop_request.repeated)
        logs.close()
    return _verdict(console, lines, logs)


def _verdict(console: Console, lines: list[Line], logs: RoleLogs) -> int:
    wrong = [line for line in lines if not line.adds_up]
    for line in wrong:
        text = f"Does not add up: {line.text}: must be {line.expected}, is {line.found}."
        console.print(text, style="bold red", highlight=False)
    if wrong:
        console.print(f"The logs are in {logs.folder}.", highlight=False)
        return 1
    console.print("The account adds up: nothing lost, nothing invented.", style="bold green", highlight=False)
    return 0


def _wait_until_ready(stack: Stack, stop_request: StopRequest, logs: RoleLogs) -> None:
    deadline = time.monotonic() + LONGEST_START_SECONDS
    while not stack.ready():
        if stop_request.made:
            raise Interrupted
        if time.monotonic() > deadline:
            raise DevstackError(f"{stack.url}/readyz does not answer 200; the logs are in {logs.folder}.")
        time.sleep(0.2)  # between two looks: nobody calls when an HTTP server gets ready


async def _until_stopped(stack: Stack, console: Console, stop_request: StopRequest) -> list[Line]:
    """The load, given up when the user asks to stop."""
    work = asyncio.create_task(_run(stack, console))
    while not work.done():
        if stop_request.made:
            work.cancel()
        await asyncio.wait({work}, timeout=0.2)
    if work.cancelled():
        raise Interrupted
    return work.result()


async def _run(stack: Stack, console: Console) -> list[Line]:
    tag = f"demo-{uuid.uuid4().hex[:8]}"
    rabbitmq = stack.servers.rabbitmq
    dead_letters_before = (await queue_depths(rabbitmq)).get(DEAD_LETTERS, 0)
    async with Receiver() as receiver, aiohttp.ClientSession(stack.url) as session:
        client = Client(session)
        load = Load(client=client, receiver=receiver, tag=tag)
        observer = Observer(client=client, load=load, rabbitmq=rabbitmq, tag=tag)
        console.print(f"submitting {len(load.planned)} http.request tasks with the tag {tag}", highlight=False)
        with Progress(console) as progress:
            await _both(load.submit(), observer.until_final(progress.show))
        seen = await observer.settled(dead_letters_before)
        lines = account(
            planned=len(load.planned),
            submitted=load.submitted,
            seen=seen,
            receiver=receiver,
            dead_letters_before=dead_letters_before,
        )
        print_outcome(console, seen.tasks.values())
        await _show_dead_letter(console, client, load, seen)
        print_account(console, lines)
        console.print(f"{receiver.requests} requests in {seen.elapsed_seconds:.1f} s", highlight=False)
    return lines


async def _both(submit: Coroutine[None, None, None], observe: Coroutine[None, None, None]) -> None:
    """Side by side; when one fails, the other is given up."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(submit)
            group.create_task(observe)
    except ExceptionGroup as errors:
        first: BaseException = errors
        while isinstance(first, ExceptionGroup):  # the submits are a group of their own
            first = first.exceptions[0]
        raise first from errors


async def _show_dead_letter(console: Console, client: Client, load: Load, seen: Observation) -> None:
    hopeless = [task_id for task_id, delivery in load.submitted.items() if delivery.always_fails]
    dead = next((task_id for task_id in hopeless if seen.tasks.get(task_id, {}).get("status") == "failed"), None)
    if dead is not None:
        print_dead_letter(console, await client.task(dead), await client.attempts(dead))
