"""Writes messages to a channel as one run of frames.

This is ``aiormq.Channel.basic_publish`` without a task, a lock and a write for each message, which cost most of its
time. Like there, the confirms end with the channel.
"""

import asyncio
from collections.abc import Sequence

import aiormq
import pamqp.frame
from aiormq.abc import ChannelFrame
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from aftercommit.broker.message import PERSISTENT, Message
from aftercommit.broker.receipt import Fate, Receipt

Confirm = asyncio.Future[object]


async def send(channel: aiormq.Channel, messages: Sequence[Message], *, delivery_mode: int) -> list[Confirm | Receipt]:
    """Write all ``messages``, those with ``delivery_mode`` that need not be persistent; returns for each a future that
    its confirm settles, or at once the receipt of one that AMQP cannot carry."""
    async with channel.lock:
        frames, sent = _numbered(channel, messages, delivery_mode)
        await channel.write_queue.put(frames)
    return sent


def send_at_once(
    channel: aiormq.Channel, messages: Sequence[Message], *, delivery_mode: int
) -> list[Confirm | Receipt]:
    """As ``send``, on a channel that nobody else sends on: nothing else may hold its lock. Raises asyncio.QueueFull
    when the connection takes nothing now; nothing was sent then."""
    if channel.write_queue.full():
        raise asyncio.QueueFull
    frames, sent = _numbered(channel, messages, delivery_mode)
    channel.write_queue.put_nowait(frames)
    return sent


def _numbered(
    channel: aiormq.Channel, messages: Sequence[Message], delivery_mode: int
) -> tuple[ChannelFrame, list[Confirm | Receipt]]:
    """All ``messages`` as one run of frames. From here on the channel counts them: they must be sent in this order."""
    sent: list[Confirm | Receipt] = []
    payload: list[bytes] = []
    for message in messages:
        try:
            payload.append(_frames(message, channel, delivery_mode))
        except (TypeError, ValueError) as error:  # pamqp's words for a name that is too long, and the like
            sent.append(Receipt(Fate.UNACCEPTABLE, f"AMQP cannot carry it: {error}"))
        else:
            sent.append(_expect(channel, message))
    return ChannelFrame(payload=b"".join(payload), should_close=False), sent


def _expect(channel: aiormq.Channel, message: Message) -> Confirm:
    channel.delivery_tag += 1
    confirm: Confirm = channel.create_future()
    channel.confirmations[channel.delivery_tag] = confirm
    # By this a returned message finds its confirm.
    channel.message_id_delivery_tag[message.message_id] = channel.delivery_tag
    return confirm


def _frames(message: Message, channel: aiormq.Channel, delivery_mode: int) -> bytes:
    properties = Basic.Properties(
        delivery_mode=PERSISTENT if message.persistent else delivery_mode,
        message_id=message.message_id,
        content_type="application/json",
        headers=dict(message.headers) or None,
    )
    largest = channel.max_content_size
    frames: list[Frame | ContentHeader | ContentBody] = [
        Basic.Publish(exchange=message.exchange, routing_key=message.routing_key, mandatory=True),
        ContentHeader(properties=properties, body_size=len(message.body)),
        # A frame over the negotiated size would cost the connection.
        *(ContentBody(message.body[start : start + largest]) for start in range(0, len(message.body), largest)),
    ]
    return b"".join(pamqp.frame.marshal(frame, channel.number) for frame in frames)
