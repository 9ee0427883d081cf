"""Batches: how they are cut, and what happens to one when something in it is wrong."""

import asyncio
from typing import Any

import psycopg
import pytest
from qslice_gateway.ledger.broker import Delivery, LinkLost
from qslice_gateway.ledger.inbox import Inbox, is_outage, settle


class Acknowledging:
    """The one method of a channel that an inbox uses."""

    def __init__(self) -> None:
        self.tags: list[int] = []

    def acknowledge(self, up_to: int) -> None:
        self.tags.append(up_to)


def delivery(tag: int, body: bytes = b"x") -> Delivery:
    return Delivery(tag, "key", False, body, None, 0.0)


def box(**limits: Any) -> tuple[Inbox, Acknowledging]:
    channel = Acknowledging()
    return Inbox(channel, **{"limit": 3, **limits}), channel  # type: ignore[arg-type]


async def test_a_batch_is_all_that_waits_up_to_a_number() -> None:
    inbox, _ = box()
    for tag in range(1, 6):
        inbox.put(delivery(tag))
    assert [one.tag for one in await inbox.take()] == [1, 2, 3]
    assert [one.tag for one in await inbox.take()] == [4, 5]


async def test_a_batch_ends_where_it_gets_too_large_but_holds_at_least_one() -> None:
    inbox, _ = box(max_bytes=10)
    for tag in range(1, 4):
        inbox.put(delivery(tag, b"x" * 20))
    assert [one.tag for one in await inbox.take()] == [1]


async def test_a_closed_inbox_gives_an_empty_batch_also_to_who_waits() -> None:
    inbox, _ = box()
    waiting = asyncio.create_task(inbox.take())
    await asyncio.sleep(0)
    inbox.close()
    assert await waiting == []
    inbox.put(delivery(1))
    assert await inbox.take() == []


async def test_each_batch_is_acknowledged_up_to_its_last_message_once_it_is_done() -> None:
    inbox, channel = box()
    seen: list[list[int]] = []

    async def handle(batch: list[Delivery]) -> None:
        assert len(channel.tags) == len(seen)
        seen.append([one.tag for one in batch])
        if len(seen) == 2:
            inbox.close()

    for tag in range(1, 6):
        inbox.put(delivery(tag))
    await inbox.work(handle, _never)
    assert channel.tags == [3, 5]


async def _never(one: Delivery, wrong: Exception) -> None:
    raise AssertionError(f"given up: {one.tag} {wrong}")


async def test_one_bad_message_is_given_up_alone_and_the_others_get_through() -> None:
    done: list[int] = []
    given_up: list[int] = []

    async def handle(batch: list[Delivery]) -> None:
        if any(one.tag in (3, 6) for one in batch):
            raise psycopg.DataError("invalid input")
        done.extend(one.tag for one in batch)

    async def give_up(one: Delivery, wrong: Exception) -> None:
        assert "invalid" in str(wrong)
        given_up.append(one.tag)

    await settle([delivery(tag) for tag in range(1, 9)], handle, give_up)
    assert done == [1, 2, 4, 5, 7, 8]
    assert given_up == [3, 6]


async def test_while_the_database_is_away_nothing_is_given_up() -> None:
    attempts = 0
    outages = 0

    async def handle(batch: list[Delivery]) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise psycopg.OperationalError("server closed the connection")

    def outage() -> None:
        nonlocal outages
        outages += 1

    await settle([delivery(1)], handle, _never, outage)
    assert (attempts, outages) == (3, 2)


async def test_the_end_of_the_link_ends_the_work() -> None:
    async def handle(batch: list[Delivery]) -> None:
        raise LinkLost("gone")

    with pytest.raises(LinkLost):
        await settle([delivery(1)], handle, _never)


def test_what_the_database_cannot_take_is_no_outage() -> None:
    assert is_outage(psycopg.errors.AdminShutdown())
    assert is_outage(psycopg.errors.DeadlockDetected())
    assert is_outage(psycopg.OperationalError("connection refused"))
    assert not is_outage(psycopg.errors.StatementTooComplex())
    assert not is_outage(psycopg.errors.UntranslatableCharacter())
    assert not is_outage(ValueError())
