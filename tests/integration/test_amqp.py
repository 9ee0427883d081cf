"""The thin layer over pika: answers, confirms, and ends that are told apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from qslice.amqp import Channel, Connection, Cut, Message, Nacked, Refused

from tests.support.processes import LOOPBACK, pick_free_port
from tests.support.proxy import TcpProxy
from tests.support.wait import wait_for_async

QUORUM = {"x-queue-type": "quorum"}


@pytest.fixture
async def connection(broker_url: str) -> AsyncIterator[Connection]:
    connection = await Connection.open(broker_url, "test")
    yield connection
    await connection.close()


@pytest.fixture
async def channel(connection: Connection) -> Channel:
    channel = await connection.channel(confirms=True)
    await channel.declare_queue("q", durable=True, arguments=QUORUM)
    return channel


async def test_what_is_published_at_once_is_confirmed_and_got_in_order(channel: Channel) -> None:
    confirms = [channel.publish("", "q", b"%d" % n, message_id=str(n)) for n in range(300)]
    await asyncio.gather(*confirms)
    got = [await channel.get("q") for _ in range(300)]
    assert [message.body for message in got if message] == [b"%d" % n for n in range(300)]
    assert [message.message_id for message in got if message][:2] == ["0", "1"]
    assert await channel.get("q") is None


async def test_headers_come_as_they_were_sent(channel: Channel) -> None:
    await channel.publish("", "q", b"x", headers={"x-qslice-job": "job_x", "x-qslice-attempt": 3})
    message = await channel.get("q")
    assert message is not None
    assert message.headers["x-qslice-job"] == "job_x"
    assert message.headers["x-qslice-attempt"] == 3
    assert not message.redelivered
    channel.give_back(message)
    again = await channel.get("q")
    assert again is not None
    assert again.redelivered
    channel.ack(again)


async def test_a_large_message_arrives_whole_among_small_ones(channel: Channel) -> None:
    large = bytes(range(256)) * 16 * 1024
    bodies = [b"before", large, b"after"]
    await asyncio.gather(*(channel.publish("", "q", body) for body in bodies))
    assert [message.body for _ in bodies if (message := await channel.get("q"))] == bodies


async def test_a_queue_that_is_not_there_is_told_from_a_cut(
    connection: Connection, channel: Channel
) -> None:
    closed: list[bool] = []
    channel.when_closed(lambda: closed.append(True))
    waiting = channel.publish("", "q", b"x")
    with pytest.raises(Refused) as refused:
        await channel.get("nowhere")
    assert refused.value.not_found
    assert "nowhere" in refused.value.text
    assert closed == [True]
    assert not channel.is_open
    with pytest.raises(Refused):
        channel.publish("", "q", b"y")
    await asyncio.wait((waiting,))
    # The connection lives on.
    assert await (await connection.channel()).get("q") is not None


async def test_a_queue_that_is_full_refuses_and_the_others_are_confirmed(
    channel: Channel,
) -> None:
    await channel.declare_queue(
        "full",
        durable=True,
        arguments={**QUORUM, "x-max-length": 1, "x-overflow": "reject-publish"},
    )

    async def is_full() -> bool:
        try:
            await channel.publish("", "full", b"x")
        except Nacked:
            return True
        return False

    await wait_for_async(is_full, what="the queue is full")
    await channel.publish("", "q", b"x")


async def test_a_message_beyond_the_brokers_limit_closes_the_channel_with_its_reason(
    channel: Channel,
) -> None:
    with pytest.raises(Refused, match="larger than"):
        await channel.publish("", "q", b"x" * (17 * 1024**2))


async def test_a_consumer_gets_its_prefetch_and_more_with_each_ack(connection: Connection) -> None:
    channel = await connection.channel(prefetch=2, confirms=True)
    await channel.declare_queue("q", durable=True, arguments=QUORUM)
    came: list[Message] = []
    tag = await channel.consume("q", came.append)
    await asyncio.gather(*(channel.publish("", "q", b"x") for _ in range(5)))
    await wait_for_async(lambda: len(came) == 2, what="two messages")
    channel.ack(came[0])
    await wait_for_async(lambda: len(came) == 3, what="one more")
    await channel.cancel(tag)
    await channel.cancel(tag)
    for message in came[1:]:
        channel.ack(message)
    assert (await channel.declare_queue("q", passive=True)).ready == 2
    assert len(came) == 3


async def test_acks_of_one_turn_in_any_order_settle_those_messages_and_no_others(
    connection: Connection,
) -> None:
    channel = await connection.channel(prefetch=50, confirms=True)
    await channel.declare_queue("q", durable=True, arguments=QUORUM)
    came: list[Message] = []
    await asyncio.gather(*(channel.publish("", "q", b"%d" % n) for n in range(12)))
    tag = await channel.consume("q", came.append)
    await wait_for_async(lambda: len(came) == 12, what="all of them")
    for n in (1, 0, 3, 2, 9, 6):
        channel.ack(came[n])
    channel.give_back(came[4])
    await asyncio.sleep(0)
    channel.ack(came[5])
    await channel.cancel(tag)
    await channel.close()
    reading = await connection.channel()
    left = [message.body for _ in range(12) if (message := await reading.get("q"))]
    assert sorted(left) == sorted([b"4", b"7", b"8", b"10", b"11"])


async def test_a_consumer_whose_queue_is_deleted_is_told_so(
    connection: Connection, channel: Channel
) -> None:
    listening = await connection.channel()
    gone: list[str] = []
    listening.when_cancelled(gone.append)
    tag = await listening.consume("q", lambda message: None)
    await channel.delete_queue("q")
    await wait_for_async(lambda: gone == [tag], what="the cancellation")


async def test_whatever_waits_ends_with_the_connection(broker_url: str) -> None:
    parts = urlsplit(broker_url)
    with TcpProxy(parts.hostname or "", parts.port or 0) as proxy:
        user = parts.netloc.rpartition("@")[0]
        url = parts._replace(netloc=f"{user}@{proxy.host}:{proxy.port}").geturl()
        connection = await Connection.open(url, "test")
        channel = await connection.channel(confirms=True)
        await channel.declare_queue("q", durable=True)
        proxy.cut()
        waiting = channel.publish("", "q", b"x")
        with pytest.raises(Cut):
            await channel.get("q")
        with pytest.raises(Cut):
            await waiting
        with pytest.raises(Cut):
            await connection.lost
        with pytest.raises(Cut):
            await connection.channel()
        await connection.close()


async def test_a_broker_that_is_not_there_is_a_cut_that_says_so() -> None:
    with pytest.raises(Cut, match="refused"):
        await Connection.open(f"amqp://guest:guest@{LOOPBACK}:{pick_free_port()}/", "test")


async def test_a_wrong_password_is_a_cut_that_says_so_without_it(broker_url: str) -> None:
    parts = urlsplit(broker_url)
    user = parts.username
    netloc = f"{user}:wrong-one@{parts.hostname}:{parts.port}"
    with pytest.raises(Cut, match="Authentication") as cut:
        await Connection.open(parts._replace(netloc=netloc).geturl(), "test")
    assert "wrong-one" not in str(cut.value)
