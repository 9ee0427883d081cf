"""Events, results, requests and dead letters as the ledger reads them."""

from typing import Any
from unittest.mock import Mock

import orjson
import pytest
from qslice import names
from qslice.messages.base import Rejected
from qslice.messages.ledger import Event
from qslice.states import State
from qslice_gateway.ledger.broker import Delivery
from qslice_gateway.ledger.dead_letters import Letter, read_letter
from qslice_gateway.ledger.events import event_data, failure, read_event
from qslice_gateway.ledger.reading import Unreadable
from qslice_gateway.ledger.relay import outgoing
from qslice_gateway.ledger.results import read_result
from qslice_gateway.ledger.rpc import message_key, read_request

RESULT: dict[str, Any] = {
    "job_id": "job_1",
    "project": "lab",
    "kind": "run",
    "state": "failed",
    "attempt": 2,
    "exit_code": 3,
    "worker": "w1",
    "error": {"owner": "user", "code": "exit_code", "message": "3"},
    "new_in_a_later_version": 1,
}
EVENT: dict[str, Any] = {
    "type": "fault",
    "job_id": "job_1",
    "project": "lab",
    "kind": "run",
    "attempt": 2,
    "worker": "w1",
    "at": "2026-01-01T00:00:00Z",
}


def delivery(
    body: bytes = b"{}",
    key: str = "lab.Dead",
    headers: dict[str, Any] | None = None,
    **properties: Any,
) -> Delivery:
    # What pika gives is a plain bag of attributes.
    return Delivery(1, key, False, body, Mock(headers=headers, **properties), 0.0)


def test_a_result_is_kept_whole_with_what_a_later_version_adds() -> None:
    found = read_result(orjson.dumps(RESULT))
    assert found.state is State.FAILED
    assert found.row["result"] == RESULT
    assert (found.row["exit_code"], found.row["error_owner"], found.row["error_code"]) == (
        3,
        "user",
        "exit_code",
    )
    assert found.row["event"] == {"exit_code": 3, "error": RESULT["error"], "worker": "w1"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state", "running"),
        ("state", "fine"),
        ("state", None),
        ("state", ["failed"]),
        ("job_id", 7),
        ("project", None),
        ("attempt", "2"),
        ("attempt", True),
        ("attempt", 2**31),
        ("exit_code", "3"),
        ("exit_code", 2**40),
        ("error", "broken"),
    ],
)
def test_a_result_that_names_no_end_of_a_job_is_unreadable(field: str, value: Any) -> None:
    with pytest.raises(Unreadable, match=field):
        read_result(orjson.dumps({**RESULT, field: value}))


def test_what_the_ledger_itself_tells_of_a_batch_is_no_event_of_a_worker() -> None:
    assert read_event(b'{"type": "batch", "batch_id": "b"}') is None


def test_an_event_of_an_unknown_type_is_rejected_with_its_field() -> None:
    with pytest.raises(Rejected) as caught:
        read_event(orjson.dumps({**EVENT, "type": "exploded"}))
    assert caught.value.field == "type"


def test_a_fault_without_a_reason_gets_one() -> None:
    ended = failure(Event.of(EVENT))
    assert (ended.why, ended.attempt, ended.error["owner"]) == ("fault", 2, "system")
    assert ended.error["code"] == "internal"


def test_a_release_is_no_fault() -> None:
    assert failure(Event.of({**EVENT, "type": "released"})).why == "released"


def test_progress_keeps_its_fraction_and_text() -> None:
    event = Event.of({**EVENT, "type": "progress", "fraction": 0.5, "text": "half"})
    assert event_data(event) == {"fraction": 0.5, "text": "half"}
    assert event_data(Event.of({**EVENT, "type": "started"})) is None


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"op": "sing"}', b'{"op": "claim"}', b'{"op": "owned", "job_ids": 3}']
)
def test_a_request_that_cannot_be_read_is_rejected(body: bytes) -> None:
    with pytest.raises((Rejected, Unreadable)):
        read_request(body)


def test_a_question_asked_again_has_the_same_key_and_another_has_not() -> None:
    first = delivery(reply_to="amq.rabbitmq.reply-to.abc", correlation_id="1")
    again = delivery(reply_to="amq.rabbitmq.reply-to.abc", correlation_id="1")
    other = delivery(reply_to="amq.rabbitmq.reply-to.abc", correlation_id="2")
    another_worker = delivery(reply_to="amq.rabbitmq.reply-to.xyz", correlation_id="1")
    assert message_key(first) == message_key(again)
    assert len({message_key(one) for one in (first, other, another_worker)}) == 3


def test_a_dead_letter_of_a_worker_says_why_by_its_headers() -> None:
    headers = {
        names.HEADER_REASON: "required, but missing",
        names.HEADER_FIELD: "command",
        names.HEADER_QUEUE: "lab.ToDo",
        names.HEADER_OWNER: "user",
        names.HEADER_JOB: "job_1",
        names.HEADER_ATTEMPT: 2,
    }
    assert read_letter(delivery(headers=headers)) == Letter(
        "lab", "lab.ToDo", "job_1", 2, "required, but missing", "command", "user", False
    )


def test_a_message_that_the_broker_gave_up_is_the_systems_fault_and_names_its_queue() -> None:
    headers = {
        names.HEADER_JOB: "job_1",
        names.HEADER_ATTEMPT: 1,
        "x-death": [{"reason": "delivery_limit", "queue": "lab.ToDo", "count": 1}],
    }
    letter = read_letter(delivery(headers=headers))
    assert letter is not None
    assert (letter.owner, letter.queue, letter.job_id) == ("system", "lab.ToDo", "job_1")
    assert "never acknowledged" in letter.reason


@pytest.mark.parametrize("headers", [None, {}, {"x-death": []}, {"x-death": [3]}, {"x-death": 1}])
def test_a_dead_letter_without_a_word_is_kept_all_the_same(headers: dict[str, Any] | None) -> None:
    letter = read_letter(delivery(headers=headers))
    assert letter is not None
    assert (letter.reason, letter.job_id) == ("No reason was given.", None)


@pytest.mark.parametrize("key", ["lab.ToDo", "", "lab", "lab.Dead.more", ".dead"])
def test_what_has_no_key_of_a_dead_queue_is_no_dead_letter(key: str) -> None:
    assert read_letter(delivery(key=key)) is None


def test_a_reason_is_bounded_and_holds_no_nul() -> None:
    letter = read_letter(delivery(headers={names.HEADER_REASON: "\x00" + "x" * 10_000}))
    assert letter is not None
    assert "\x00" not in letter.reason
    assert len(letter.reason) <= 2000


def outbox_row(**fields: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "exchange": names.EXCHANGE_TODO,
        "routing_key": "lab.ToDo",
        "headers": None,
        "body": b"{}",
        "message_id": None,
        "job_id": "job_1",
        "attempt": 3,
        "priority": 0,
        **fields,
    }


def test_a_todo_message_carries_its_job_and_attempt_and_must_find_a_queue() -> None:
    message = outgoing(outbox_row())
    assert message.headers == {names.HEADER_JOB: "job_1", names.HEADER_ATTEMPT: 3}
    assert message.mandatory
    assert message.message_id == "outbox-7"


def test_a_replayed_message_of_a_lab_carries_no_job() -> None:
    assert outgoing(outbox_row(job_id=None)).headers == {}


def test_a_result_need_not_find_a_queue_and_keeps_its_id() -> None:
    message = outgoing(outbox_row(exchange=names.EXCHANGE_DONE, message_id="job_1:3"))
    assert not message.mandatory
    assert (message.message_id, message.headers) == ("job_1:3", {})
