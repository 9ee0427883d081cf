"""What is told of an attempt's end, and within which bounds."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qslice.faults import Error, Owner, SystemFault, UserFault
from qslice.messages.ledger import Event, EventType
from qslice.messages.result import MAX_MESSAGE, MAX_OUTPUT, MAX_RESULT, Result
from qslice.states import State
from qslice.worker.handler import CancelReason, Failed, Outcome, TimedOut
from qslice.worker.results import About, cut_down, verdict

AT = datetime(2026, 1, 1, tzinfo=UTC)
ABOUT = About(
    job_id="job_x",
    project="alpha",
    kind="run",
    attempt=3,
    worker="w1",
    producer_id="t-1",
    batch_id="batch_y",
    labels={"sweep": "s1"},
    extra={"ID_projet": 7, "ID_tache": "42"},
)


def told(ended: Outcome | BaseException, stopped: CancelReason | None = None) -> Any:
    return verdict(ABOUT, ended, stopped, AT, 1.5)


def result(ended: Outcome | BaseException, stopped: CancelReason | None = None) -> Result:
    found = told(ended, stopped)
    assert isinstance(found, Result)
    return found


def test_a_result_repeats_what_identifies_the_job() -> None:
    found = result(Outcome(exit_code=0, stdout="42\n", result={"rate": 0.1}, commit="c", image="i"))
    assert found == Result(
        job_id="job_x",
        id="t-1",
        project="alpha",
        kind="run",
        state=State.SUCCEEDED,
        attempt=3,
        batch_id="batch_y",
        exit_code=0,
        stdout="42\n",
        result={"rate": 0.1},
        commit="c",
        image="i",
        worker="w1",
        labels={"sweep": "s1"},
        finished_at=AT,
        duration_s=1.5,
        ID_projet=7,
        ID_tache="42",
    )


@pytest.mark.parametrize(
    ("raised", "state"),
    [(UserFault("build_failed", "no"), "failed"), (TimedOut("walltime", "no"), "timed_out")],
)
def test_a_users_fault_is_a_result_with_its_code(raised: UserFault, state: str) -> None:
    found = result(raised)
    assert (found.state, found.error) == (state, raised.error)
    assert found.ID_projet == 7


def test_output_so_far_is_in_the_result_of_a_failure() -> None:
    partial = Outcome(exit_code=3, stdout="so far", stderr="oops", extra={"Resultat": "so far"})
    found = result(Failed("exit_code", "code 3", partial))
    assert (found.exit_code, found.stdout, found.stderr) == (3, "so far", "oops")
    assert found.Resultat == "so far"


def test_a_system_fault_is_an_event_for_the_ledger_to_try_again() -> None:
    found = told(SystemFault("disk_full", "no room"))
    assert isinstance(found, Event)
    assert found.type is EventType.FAULT
    assert found.error == Error(owner=Owner.SYSTEM, code="disk_full", message="no room")


def test_an_exception_nobody_expected_is_a_system_fault_without_its_text() -> None:
    found = told(RuntimeError("password=hunter2"))
    assert found.type is EventType.FAULT
    assert found.error.code == "internal"
    assert "RuntimeError" in found.error.message
    assert "hunter2" not in found.error.message


def test_a_cancellation_that_nobody_asked_for_is_a_fault_of_ours() -> None:
    assert told(asyncio.CancelledError()).error.code == "internal"


@pytest.mark.parametrize(
    "raised", [asyncio.CancelledError(), Failed("exit_code", "137"), OSError("broken pipe")]
)
def test_whatever_a_cancelled_job_raises_it_is_cancelled(raised: BaseException) -> None:
    found = result(raised, "cancelled")
    assert found.state is State.CANCELLED
    assert found.error is not None
    assert found.error.code == "cancelled"


@pytest.mark.parametrize("raised", [asyncio.CancelledError(), Failed("exit_code", "137")])
def test_whatever_a_job_raises_at_shutdown_it_is_handed_back(raised: BaseException) -> None:
    assert told(raised, "shutdown").type is EventType.RELEASED


@pytest.mark.parametrize("ended", [Outcome(), asyncio.CancelledError(), SystemFault("x", "y")])
def test_of_a_lost_job_nothing_is_told(ended: Outcome | BaseException) -> None:
    assert told(ended, "lost") is None


@pytest.mark.parametrize("stopped", ["cancelled", "shutdown"])
def test_a_job_that_was_done_when_it_was_stopped_is_done(stopped: CancelReason) -> None:
    assert result(Outcome(exit_code=0), stopped).state is State.SUCCEEDED


def test_of_long_output_the_end_is_kept() -> None:
    found = result(Outcome(stdout="a" * MAX_OUTPUT + "end", stderr="short"))
    assert len(found.stdout) == MAX_OUTPUT
    assert found.stdout.endswith("end")
    assert found.truncated
    assert not result(Outcome(stdout="a" * MAX_OUTPUT)).truncated


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("x" * MAX_RESULT, "at most"),
        (object(), "object is no JSON value"),
        (2**70, "left out"),
    ],
)
def test_a_result_that_cannot_be_kept_is_left_out_and_stderr_says_why(value: Any, why: str) -> None:
    found = result(Outcome(result=value, stderr="mine"))
    assert found.result is None
    assert found.stderr.startswith("mine\n[the result was left out")
    assert why in found.stderr
    assert found.truncated


def test_a_result_nested_without_end_is_left_out() -> None:
    value: list[Any] = []
    for _ in range(5000):
        value = [value]
    assert "nested" in result(Outcome(result=value)).stderr


def test_a_long_error_message_is_bounded() -> None:
    found = result(UserFault("build_failed", "x" * (2 * MAX_MESSAGE)))
    assert found.error is not None
    assert len(found.error.message) == MAX_MESSAGE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
ANY_TEXT = st.text(st.characters(codec=None) | st.sampled_from("\x00\ud800\udfff"))


@given(stdout=ANY_TEXT, stderr=ANY_TEXT, message=ANY_TEXT, value=JSON)
def test_every_outcome_can_be_sent_read_and_stored(
    stdout: str, stderr: str, message: str, value: Any
) -> None:
    """PostgreSQL stores neither NUL nor lone surrogates, and JSON has no NaN."""
    partial = Outcome(stdout=stdout, stderr=stderr, result=value)
    for ended in (partial, Failed("exit_code", message, partial)):
        body = result(ended).body()
        Result.read(body)
        assert b"\\u0000" not in body
        assert b"\\ud8" not in body


def test_a_result_cut_down_is_small_and_keeps_what_happened() -> None:
    large = result(
        Failed(
            "exit_code",
            "e" * MAX_MESSAGE,
            Outcome(
                exit_code=1, stdout="o" * MAX_OUTPUT, stderr="e" * MAX_OUTPUT, result=["x"] * 9999
            ),
        )
    )
    short = cut_down(large)
    assert len(short.body()) < 32 * 1024
    assert (short.state, short.exit_code, short.truncated) == (State.FAILED, 1, True)
    assert short.error is not None
    assert short.error.code == "exit_code"
    assert "shortened" in short.stderr
