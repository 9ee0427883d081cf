"""When a completion is tried again, where it waits, and that one object's work keeps its order."""

from __future__ import annotations

import asyncio

import pytest
from qslice import names
from qslice.settings import load
from qslice_mrs.finder import query_for
from qslice_mrs.lanes import Lanes
from qslice_mrs.retry import (
    HEADER_DOUBT,
    HEADER_SETTLE,
    HEADER_TRIED,
    Attempt,
    Waiting,
    queue_of,
    worth_telling,
)
from qslice_mrs.settings import MrsSettings

DELAYS = [2.0, 10.0, 60.0, 300.0]


def test_waits_grow_to_the_longest() -> None:
    waiting = Waiting(DELAYS, settle_s=120, limit=300)
    found = [waiting.after(tried) for tried in range(1, 12)]
    assert found[0] == queue_of(2)
    assert found[-1] == queue_of(300)
    assert [int(name.split(".")[-1][:-2]) for name in found] == sorted(
        int(name.split(".")[-1][:-2]) for name in found
    )


def test_the_registry_s_own_wish_to_wait_is_kept_as_far_as_there_is_a_queue() -> None:
    waiting = Waiting(DELAYS, settle_s=120, limit=300)
    assert waiting.after(1, at_least_s=30) == queue_of(60)
    assert waiting.after(1, at_least_s=86400) == queue_of(300)


def test_the_defaults_outlast_an_outage_of_hours() -> None:
    settings = MrsSettings.model_validate(
        {
            "amqp_url": "amqp://x",
            "mrs_url": "https://mrs.example",
            "mrs_client_id": "c",
            "mrs_client_secret": "s",
        }
    )
    waiting = Waiting(settings.mrs_retry_delays_s, settings.mrs_settle_s, settings.mrs_retry_limit)
    total = sum(
        int(waiting.after(tried).split(".")[-1][:-2]) / 1000
        for tried in range(1, settings.mrs_retry_limit)
        if not waiting.exhausted(tried)
    )
    assert total > 12 * 3600


def test_every_queue_loses_nothing_and_gives_back_to_the_publisher_s() -> None:
    for name, arguments in Waiting(DELAYS, settle_s=120, limit=3).queues():
        assert name.startswith(f"{names.QUEUE_MRS}.wait.")
        assert arguments["x-queue-type"] == "quorum"
        assert arguments["x-dead-letter-routing-key"] == names.QUEUE_MRS
        assert arguments["x-dead-letter-strategy"] == "at-least-once"
        assert arguments["x-overflow"] == "reject-publish"
        assert name.endswith(f".{arguments['x-message-ttl']}ms")


def test_it_is_given_up_at_the_limit() -> None:
    waiting = Waiting([1.0], settle_s=1, limit=3)
    assert [waiting.exhausted(tried) for tried in (1, 2, 3)] == [False, False, True]


@pytest.mark.parametrize(
    ("headers", "redelivered", "expected"),
    [
        ({}, False, Attempt()),
        ({}, True, Attempt(doubt=True)),
        ({HEADER_TRIED: 3, HEADER_DOUBT: True}, False, Attempt(3, True)),
        ({HEADER_SETTLE: True}, False, Attempt(settle=True)),
        ({HEADER_TRIED: "many"}, False, Attempt()),
    ],
)
def test_what_a_delivery_says_of_earlier_attempts(
    headers: dict[str, object], redelivered: bool, expected: Attempt
) -> None:
    assert Attempt.of(headers, redelivered) == expected
    assert Attempt.of(expected.headers(), False) == expected


def test_a_message_that_waits_carries_none_of_the_broker_s_own_headers() -> None:
    # RabbitMQ drops what it takes for a cycle of dead-lettering, by the header x-death.
    sent = Attempt.of({"x-death": [{"queue": "a"}], HEADER_TRIED: 1}, False).headers()
    assert set(sent) == {HEADER_TRIED, HEADER_DOUBT, HEADER_SETTLE}


def test_the_first_failures_are_told_and_then_ever_fewer() -> None:
    assert [tried for tried in range(1, 20) if worth_telling(tried)] == [1, 2, 4, 8, 16]


def test_a_query_asks_for_identifiers_as_such_and_as_keywords() -> None:
    assert query_for(["a"]) == 'identifier:"a" OR keywords:"a"'
    assert query_for(["a", 'b"c']) == 'identifier:("a" OR "bc") OR keywords:("a" OR "bc")'


async def test_one_lane_keeps_its_order_and_holds_up_no_other() -> None:
    lanes = Lanes()
    done: list[str] = []
    gate = asyncio.Event()

    async def work(lane: str, name: str, wait: bool = False) -> None:
        async with lanes.lane(lane):
            if wait:
                await gate.wait()
            done.append(name)

    tasks = [
        asyncio.create_task(work("a", "a1", wait=True)),
        asyncio.create_task(work("a", "a2")),
        asyncio.create_task(work("b", "b1")),
    ]
    await tasks[2]
    assert done == ["b1"]
    gate.set()
    await asyncio.gather(*tasks)
    assert done == ["b1", "a1", "a2"]
    assert len(lanes) == 0


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"mrs_url": "http://mrs.example"}, "TLS"),
        ({"mrs_url": "ftp://mrs.example"}, "https"),
        ({"mrs_url": "https://user:pw@mrs.example"}, "password"),
        ({"mrs_token_url": "http://idp.example/token"}, "TLS"),
        ({"mrs_in_flight": 0}, "mrs_in_flight"),
    ],
)
def test_a_setting_that_would_leak_or_cannot_be_is_refused(
    given: dict[str, object], named: str
) -> None:
    whole = {
        "amqp_url": "amqp://x",
        "mrs_url": "https://mrs.example",
        "mrs_client_id": "c",
        "mrs_client_secret": "s3cret",
        **given,
    }
    with pytest.raises(SystemExit) as refused:
        load(MrsSettings, **whole)
    assert named.lower() in str(refused.value).lower()
    assert "s3cret" not in str(refused.value)


def test_addresses_follow_from_the_registry_s_and_the_realm() -> None:
    base = {
        "amqp_url": "amqp://x",
        "mrs_url": "https://mrs.example/",
        "mrs_client_id": "c",
        "mrs_client_secret": "s",
    }
    plain = MrsSettings.model_validate(base)
    assert plain.token_url == ("https://mrs.example/realms/slices/protocol/openid-connect/token")
    assert plain.portal_page(7) == ("https://mrs.example/app/management/digital-objects/view/7")
    real = MrsSettings.model_validate(
        {
            **base,
            "mrs_realm": "dmi",
            "mrs_token_url": "https://sts.example/realms/{realm}/token",
            "mrs_portal_url": "https://portal.example",
        }
    )
    assert real.token_url == "https://sts.example/realms/dmi/token"
    assert real.portal_page(7).startswith("https://portal.example/app/")
