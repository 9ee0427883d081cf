"""A message of a ToDo queue is read, or is poison with a reason."""

from __future__ import annotations

from typing import Any

import pytest
from qslice import names
from qslice.faults import Owner
from qslice.messages.run import MAX_BODY
from qslice.worker.handler import Task
from qslice.worker.todo import Poison, read

from tests.support.fake_ledger import run_body
from tests.support.noop_handler import NoopHandler

READER = NoopHandler().read


def poison(headers: dict[str, Any], body: bytes) -> Poison:
    with pytest.raises(Poison) as caught:
        read(headers, body, READER)
    return caught.value


def test_a_lab_scripts_message_has_no_job_and_no_attempt() -> None:
    todo = read({}, run_body("noop", id="t-1", labels={"a": "b"}, priority=3), READER)
    assert (todo.job_id, todo.attempt) == (None, 0)
    assert (todo.task.producer_id, todo.task.labels, todo.task.priority) == ("t-1", {"a": "b"}, 3)


def test_the_ledgers_message_names_job_and_attempt() -> None:
    headers = {names.HEADER_JOB: "job_x", names.HEADER_ATTEMPT: 4}
    todo = read(headers, run_body("noop"), READER)
    assert (todo.job_id, todo.attempt) == ("job_x", 4)


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({names.HEADER_JOB: 7, names.HEADER_ATTEMPT: 1}, names.HEADER_JOB),
        ({names.HEADER_JOB: "job_x"}, names.HEADER_ATTEMPT),
        ({names.HEADER_JOB: "job_x", names.HEADER_ATTEMPT: "1"}, names.HEADER_ATTEMPT),
        ({names.HEADER_JOB: "job_x", names.HEADER_ATTEMPT: 0}, names.HEADER_ATTEMPT),
        ({names.HEADER_JOB: "job_x", names.HEADER_ATTEMPT: True}, names.HEADER_ATTEMPT),
        ({names.HEADER_JOB: "job_x", names.HEADER_ATTEMPT: 2**31}, names.HEADER_ATTEMPT),
    ],
)
def test_headers_of_the_wrong_kind_are_named(headers: dict[str, Any], field: str) -> None:
    assert poison(headers, run_body("noop")).field == field


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        (b"not json", "", "not JSON"),
        (b"\xff\xfe", "", "not JSON"),
        (b"[1]", "", "must be a JSON object"),
        (run_body("noop", colour="red"), "colour", "unknown field"),
        (b'{"repository": "https://git.example/a.git"}', "command", "required"),
        (b"[" * 100_000, "", "not JSON"),
    ],
)
def test_a_body_that_breaks_the_contract_is_named_by_its_field(
    body: bytes, field: str, reason: str
) -> None:
    found = poison({}, body)
    assert found.field == field
    assert reason in found.reason
    assert found.owner is Owner.USER


def test_a_body_that_is_too_large_is_not_even_read() -> None:
    def never(body: bytes) -> Task:
        raise AssertionError(body[:10])

    with pytest.raises(Poison, match=f"at most {MAX_BODY} are read"):
        read({}, b" " * (MAX_BODY + 1), never)


def test_a_reader_that_fails_is_our_fault_and_its_words_stay_in_the_log() -> None:
    def broken(body: bytes) -> Task:
        raise RecursionError("deep inside")

    with pytest.raises(Poison) as caught:
        read({}, b"{}", broken)
    assert caught.value.owner is Owner.SYSTEM
    assert caught.value.reason == "the worker failed to read it (RecursionError)"
