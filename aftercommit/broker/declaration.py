"""Declares the queues and exchanges. A queue that cannot be used stops only itself: the others are declared."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from aio_pika import ExchangeType
from aiormq.exceptions import ChannelAccessRefused, ChannelClosed, ChannelNotFoundEntity, ChannelPreconditionFailed

from aftercommit.broker import topology
from aftercommit.broker.broker_errors import sentence
from aftercommit.broker.connection import BrokerConnection
from aftercommit.broker.difference import Difference
from aftercommit.broker.topology import Queue
from aftercommit.core.queues import WorkQueue
from aftercommit.core.settings import Settings

log = structlog.get_logger(__name__)


COMPARE_SECONDS: Final = 5.0

REPAIR: Final = "Drain it, delete it, and it is declared anew."


@dataclass(frozen=True, slots=True)
class Report:
    """Sentences by the name of a queue or an exchange."""

    problems: Mapping[str, str] = field(default_factory=dict)
    """What cannot be used, and why. Nothing is published to it: its tasks wait in the outbox."""

    tuning: Mapping[str, str] = field(default_factory=dict)
    """What is used although it exists with other tuning, and how that differs."""


class Declarer:
    """Declares what there should be, as often as asked; logs what changed in its report since the last time."""

    def __init__(
        self, connection: BrokerConnection, settings: Settings, work_queues: Callable[[], Sequence[WorkQueue]]
    ) -> None:
        """``work_queues`` are those there are at the moment."""
        self._connection = connection
        self._work_queues = work_queues
        self._declared: Sequence[WorkQueue] | None = None
        self.queue_type = settings.rabbitmq_queue_type
        self._delays = frozenset(settings.retry_delays_seconds)
        self._compared_at: float | None = None
        self.report = Report()

    def covers(self, delays_seconds: Iterable[int]) -> bool:
        """Whether the retry queues of these delays belong to the topology. Those that do not, do from now on."""
        new = frozenset(delays_seconds) - self._delays
        self._delays |= new
        return not new

    @property
    def is_complete(self) -> bool:
        """Whether every work queue there is now was declared."""
        return self._declared is self._work_queues()

    async def declare(self) -> Report:
        """Declare everything; what exists already is left as it is. Raises BrokerUnavailable."""
        work_queues = self._work_queues()
        self._tell(await self._examine(self._queues(work_queues), create=True))
        self._declared = work_queues
        return self.report

    async def declare_new(self) -> Report:
        """Declare the work queues that were not there at the last time. Raises BrokerUnavailable."""
        work_queues = self._work_queues()
        new = set(work_queues).difference(self._declared or ())
        found = await self._examine([each for each in self._queues(work_queues) if each.work_queue in new], create=True)
        self._tell(Report({**self.report.problems, **found.problems}, {**self.report.tuning, **found.tuning}))
        self._declared = work_queues
        return self.report

    def _queues(self, work_queues: Iterable[WorkQueue]) -> list[Queue]:
        return topology.queues(work_queues, sorted(self._delays), queue_type=self.queue_type)

    async def compare(self) -> Report:
        """As ``declare``, but only for what exists: creates nothing. Raises BrokerUnavailable.

        The report may be COMPARE_SECONDS old: every page of an operator asks for it.
        """
        now = asyncio.get_running_loop().time()
        if self._compared_at is None or now - self._compared_at >= COMPARE_SECONDS:
            self._tell(await self._examine(self._queues(self._work_queues()), create=False))
            self._compared_at = now
        return self.report

    async def _examine(self, queues: Iterable[Queue], *, create: bool) -> Report:
        problems: dict[str, str] = {}
        tuning: dict[str, str] = {}
        for queue in queues:
            if not create and not await self._exists(queue.name):
                continue
            if queue.exchange is not None and queue.exchange not in problems:
                problems |= await self._problem_of_exchange(queue.exchange)
            if problem := problems.get(queue.exchange or "") or await self._problem_of_queue(queue, tuning):
                problems[queue.name] = problem
        return Report(problems, tuning)

    async def _exists(self, name: str) -> bool:
        try:
            async with self._connection.channel() as channel:
                await channel.declare_queue(name, passive=True)
        except ChannelNotFoundEntity:
            return False
        except ChannelClosed:
            return True  # and declaring it tells what is wrong
        return True

    async def _problem_of_exchange(self, name: str) -> Mapping[str, str]:
        """``name`` with its problem, or nothing."""
        try:
            async with self._connection.channel() as channel:
                await channel.declare_exchange(name, ExchangeType.TOPIC, durable=True)
        except ChannelClosed as error:
            return {name: f"The exchange {name} cannot be used: {_reason(error)}"}
        return {}

    async def _problem_of_queue(self, queue: Queue, tuning: dict[str, str]) -> str | None:
        """Declare ``queue``. A difference in its tuning is put into ``tuning``."""
        arguments = {**queue.structure, **queue.tuning}
        differences: dict[str, Difference] = {}
        try:
            while (difference := await self._declare_queue(queue, arguments)) is not None:
                if not difference.is_tuning:
                    return f"{queue.name} exists with another structure: {difference}. {REPAIR}"
                if not difference.is_known or difference.argument in differences:
                    differences.setdefault(difference.argument, difference)
                    break
                differences[difference.argument] = difference
                arguments = difference.applied(arguments)
        except ChannelAccessRefused as error:
            if not await self._exists(queue.name):
                return f"{queue.name} cannot be declared: {_reason(error)}"
            tuning[queue.name] = f"Used as it is and not compared: {_reason(error)}"
        except ChannelClosed as error:
            return f"{queue.name} cannot be used: {_reason(error)}"
        if differences:
            tuning[queue.name] = f"Used as it is: {', '.join(map(str, differences.values()))}."
        return None

    async def _declare_queue(self, queue: Queue, arguments: dict[str, Any]) -> Difference | None:
        """None when the queue is there, and bound; else the first difference that RabbitMQ finds."""
        try:
            async with self._connection.channel() as channel:
                declared = await channel.declare_queue(queue.name, durable=True, arguments=arguments)
                if queue.exchange is not None:
                    await declared.bind(queue.exchange, routing_key=queue.routing_key)
        except ChannelPreconditionFailed as error:
            if (difference := Difference.read(str(error), arguments)) is None:
                raise
            return difference
        return None

    def _tell(self, report: Report) -> None:
        known, self.report = self.report, report
        for name, problem in report.problems.items():
            if known.problems.get(name) != problem:
                log.error("queue_unusable", queue=name, problem=problem)
        for name, difference in report.tuning.items():
            if known.tuning.get(name) != difference:
                log.warning("queue_tuning_differs", queue=name, difference=difference)
        for name in known.problems.keys() - report.problems.keys():
            log.info("queue_usable_again", queue=name)


def _reason(error: BaseException) -> str:
    return str(error) or sentence(error)
