"""Nothing is lost and nothing is published twice, whatever fails: real broker, real processes."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest
from qslice import names
from qslice.messages.completion import PublicationState
from qslice_native.instance import Instance

from tests.acceptance.mrs.conftest import Publishers
from tests.support.mrs import Mrs, changed, completion, start_mrs
from tests.support.platform import Platform
from tests.support.processes import ProcessStarter
from tests.support.publications import Wire, open_wire
from tests.support.wait import wait_for


def assert_each_once(mrs: Mrs, identifiers: list[str]) -> None:
    """One object for each, and no other."""
    there = [entry["identifier"] for entry in mrs.objects()]
    assert sorted(there) == sorted(identifiers)


def test_a_completion_is_published_and_told_with_its_id_and_its_page(
    mrs: Mrs, wire: Wire, publisher: Publishers
) -> None:
    publisher()
    made = completion()
    wire.send([made])
    (report,) = wire.wait_for([made])
    (there,) = mrs.objects(made.identifier)
    assert report.internal_id == there["internalIdentifier"]
    assert (
        report.portal_url == f"{mrs.url}/app/management/digital-objects/view/{report.internal_id}"
    )
    assert (report.action, report.attempts, report.error) == ("created", 1, None)


def test_completions_from_before_the_publisher_s_first_start_are_published(
    mrs: Mrs, wire: Wire, publisher: Publishers
) -> None:
    many = [completion() for _ in range(20)]
    wire.send(many)
    publisher()
    wire.wait_for(many)
    assert_each_once(mrs, [made.identifier for made in many])


def test_a_registry_that_was_away_gets_each_object_once_when_it_is_back(
    mrs: Mrs, wire: Wire, publisher: Publishers, start_process: ProcessStarter, tmp_path: Path
) -> None:
    publisher()
    early = [completion() for _ in range(5)]
    wire.send(early)
    wire.wait_for(early)
    mrs.process.kill_all()
    many = [completion() for _ in range(40)]
    wire.send(many)
    wire.wait_for(many, PublicationState.DELAYED)
    delayed = next(entry for entry in wire.reports if entry.state is PublicationState.DELAYED)
    assert delayed.error is not None
    assert delayed.error.code == "mrs_unavailable"
    back = start_mrs(start_process, tmp_path / "mrs", listen=mrs.url.removeprefix("http://"))
    wire.wait_for(many)
    assert_each_once(back, [made.identifier for made in (*early, *many)])


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "scope": "create", "status": 429, "retry_after": 1, "times": 15},
        {"kind": "status", "scope": "create", "status": 503, "times": 15},
        {"kind": "status", "scope": "create", "status": 500, "times": 15},
        {"kind": "status", "scope": "search", "status": 502, "times": 10},
        {"kind": "status", "scope": "token", "status": 503, "times": 3},
        {"kind": "status", "scope": "create", "status": 401, "times": 7},
        {"kind": "down", "scope": "all", "times": 20},
        {"kind": "stored", "scope": "create", "times": 10},
        {"kind": "stored", "scope": "create", "times": 5, "delay_s": 4.0},
    ],
    ids=lambda fault: f"{fault['kind']}-{fault['scope']}-{fault.get('status', '')}",
)
def test_a_failing_registry_has_each_object_once_in_the_end(
    mrs: Mrs, wire: Wire, publisher: Publishers, fault: dict[str, object]
) -> None:
    mrs.fail(**fault)  # type: ignore[arg-type]
    publisher(QSLICE_MRS_TIMEOUT_S="2")
    many = [completion() for _ in range(20)]
    wire.send(many)
    wire.wait_for(many)
    assert mrs.struck() > 0
    assert_each_once(mrs, [made.identifier for made in many])


def test_a_request_that_takes_effect_long_after_it_was_given_up_leaves_one_object(
    mrs: Mrs, wire: Wire, publisher: Publishers
) -> None:
    mrs.fail("late", "create", times=3, delay_s=1.5)
    publisher(QSLICE_MRS_SETTLE_S="3")
    many = [completion() for _ in range(3)]
    wire.send(many)
    wire.wait_for(many)
    identifiers = [made.identifier for made in many]
    wait_for(lambda: len(mrs.objects()) == 6, 60, "the lost requests took effect")
    wait_for(lambda: len(mrs.objects()) == 3, 60, "second objects removed")
    assert_each_once(mrs, identifiers)


def test_a_publisher_killed_between_the_create_and_the_acknowledgement_makes_no_second_object(
    mrs: Mrs, wire: Wire, publisher: Publishers
) -> None:
    many = [completion() for _ in range(10)]
    # Stored, and the answer withheld for longer than the publisher lives.
    mrs.fail("stored", "create", delay_s=20.0)
    first = publisher(QSLICE_MRS_TIMEOUT_S="60")
    wire.send(many)
    wait_for(lambda: len(mrs.objects()) == 10, 60, "all stored")
    first.kill()
    mrs.heal()
    assert wire.gather() == []
    publisher()
    wire.wait_for(many)
    assert_each_once(mrs, [made.identifier for made in many])


def test_a_publisher_killed_again_and_again_at_any_moment_publishes_each_once(
    mrs: Mrs, wire: Wire, publisher: Publishers
) -> None:
    rng = random.Random(5)
    many = [completion() for _ in range(300)]
    wire.send(many)
    for _ in range(5):
        process = publisher(QSLICE_MRS_IN_FLIGHT="8")
        goal = len(mrs.objects()) + rng.randint(1, 40)
        wait_for(lambda goal=goal: len(mrs.objects()) >= goal, 60, "some progress")  # type: ignore[misc]
        process.kill()
    publisher()
    wire.wait_for(many)
    assert_each_once(mrs, [made.identifier for made in many])


def test_duplicates_are_one_object_also_across_a_restart(
    mrs: Mrs, wire: Wire, publisher: Publishers
) -> None:
    many = [completion() for _ in range(10)]
    shuffled = many * 10
    random.Random(3).shuffle(shuffled)
    process = publisher()
    wire.send(shuffled[:50])
    wire.wait_for(set_of(shuffled[:50]))
    assert process.terminate() == 0
    wire.send(shuffled[50:])
    publisher()
    wait_for(lambda: len(wire.gather()) >= 100, 120, "a report for each")
    assert_each_once(mrs, [made.identifier for made in many])


def set_of(completions: list) -> list:  # type: ignore[type-arg]
    return list({made.identifier: made for made in completions}.values())


def test_events_in_any_order_leave_the_newest_state_in_one_object(
    mrs: Mrs, wire: Wire, publisher: Publishers
) -> None:
    created = [completion(name=f"vm{n}") for n in range(15)]
    ended = [changed(made, revision=2, event="ended", ended_at=made.at) for made in created]
    mixed = [*ended, *created, *created, *ended]
    random.Random(7).shuffle(mixed)
    mrs.fail("status", "create", status=503, times=10)
    publisher()
    wire.send(mixed)
    wait_for(
        lambda: sum(r.state is PublicationState.PUBLISHED for r in wire.gather()) >= 60,
        120,
        "a report for each",
    )
    objects = mrs.objects()
    assert len(objects) == 15
    assert {entry["version"] for entry in objects} == {"2.0"}
    assert all("ended" in entry["keywords"] for entry in objects)


def test_what_the_registry_refuses_rests_with_its_answer(
    mrs: Mrs, wire: Wire, publisher: Publishers
) -> None:
    mrs.fail("status", "create", status=400, times=1, body='{"errors":{"$.name":["too long"]}}')
    publisher()
    refused = completion()
    wire.send([refused])
    (report,) = wire.wait_for([refused], PublicationState.FAILED)
    assert report.error is not None
    assert "too long" in report.error.message
    headers, body = wire.dead()
    assert "too long" in headers[names.HEADER_REASON]
    assert headers[names.HEADER_QUEUE] == names.QUEUE_MRS
    assert body == refused.body()
    wire.send([changed(refused, revision=2)])
    wire.wait_for([refused])
    assert_each_once(mrs, [refused.identifier])


def test_a_registry_that_stays_away_is_given_up_at_the_limit(
    mrs: Mrs, wire: Wire, publisher: Publishers
) -> None:
    mrs.fail("status", status=503, body="maintenance")
    publisher(QSLICE_MRS_RETRY_LIMIT="3")
    made = completion()
    wire.send([made])
    (report,) = wire.wait_for([made], PublicationState.FAILED)
    assert report.attempts == 3
    assert report.error is not None
    assert "maintenance" in report.error.message
    headers, _ = wire.dead()
    assert "maintenance" in headers[names.HEADER_REASON]


def test_what_is_no_completion_rests_with_the_field_s_name_and_the_rest_goes_on(
    mrs: Mrs, wire: Wire, publisher: Publishers
) -> None:
    publisher()
    good = completion()
    wire.send_raw(b"not json")
    wire.send_raw(good.body().replace(b'"what"', b'"wat"'))
    wire.send([good])
    wire.wait_for([good])
    dead = [wire.dead() for _ in range(2)]
    assert {headers.get(names.HEADER_FIELD, "") for headers, _ in dead} == {"", "what"}
    assert wire.waiting() == 0
    assert len(mrs.objects()) == 1


def test_what_a_project_does_not_publish_is_passed_over(
    mrs: Mrs, wire: Wire, publisher: Publishers
) -> None:
    publisher()
    silent, loud = completion(publish=False), completion()
    wire.send([silent, loud])
    wire.wait_for([loud])
    assert_each_once(mrs, [loud.identifier])


def test_one_publisher_works_at_a_time_and_the_other_takes_over(
    mrs: Mrs, wire: Wire, publisher: Publishers
) -> None:
    first, second = publisher(), publisher()
    many = [completion() for _ in range(10)] * 5
    wire.send(many)
    wait_for(lambda: len(wire.gather()) >= 50, 120, "a report for each")
    first.kill()
    later = [completion() for _ in range(10)]
    wire.send(later)
    wire.wait_for(later)
    assert second.is_running
    assert_each_once(mrs, [made.identifier for made in (*set_of(many), *later)])


def test_a_stop_finishes_what_is_under_way(mrs: Mrs, wire: Wire, publisher: Publishers) -> None:
    mrs.fail("delay", "create", delay_s=1.0)
    process = publisher()
    many = [completion() for _ in range(5)]
    wire.send(many)
    wait_for(lambda: mrs.requests().get("create", 0) >= 5, 60, "all under way")
    assert process.terminate() == 0
    assert len(wire.gather()) == 5
    assert wire.waiting() == 0
    assert_each_once(mrs, [made.identifier for made in many])


def test_a_broker_that_was_killed_loses_no_completion(
    mrs: Mrs, own_instance: Instance, start_process: ProcessStarter
) -> None:
    url = Platform.of(own_instance).amqp_url
    with open_wire(url) as wire:
        process = start_process("qslice-mrs", env=mrs.environment(url))
        process.wait_for_log("publishing")
        many = [completion() for _ in range(200)]
        wire.send(many)
        wait_for(lambda: len(mrs.objects()) > 20, 60, "some progress")
        own_instance.rabbitmq.kill()
        own_instance.up()
        wire.reconnect()
        wire.wait_for(many)
        assert process.is_running
    assert_each_once(mrs, [made.identifier for made in many])


def test_no_secret_is_in_the_log(mrs: Mrs, wire: Wire, publisher: Publishers) -> None:
    mrs.fail("status", "create", status=500, times=2)
    process = publisher(QSLICE_LOG_LEVEL="DEBUG")
    made = completion()
    wire.send([made])
    wire.wait_for([made])
    process._process.send_signal(signal.SIGTERM)
    process.wait()
    log = process.read_log()
    assert mrs.secret not in log
    assert "eyJ" not in log
