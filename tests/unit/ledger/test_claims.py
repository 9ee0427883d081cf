"""Why a claim that the update did not grant is refused."""

from datetime import UTC, datetime
from typing import Any

import pytest
from qslice.messages.ledger import Reason
from qslice.states import FINAL, State
from qslice_gateway.ledger.claims import refusal

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def job(state: State, attempt: int = 2, worker: str | None = "w1") -> dict[str, Any]:
    return {
        "id": "job_localhost_1",
        "state": state.value,
        "attempt": attempt,
        "worker": worker,
        "batch_id": None,
        "submitted_at": NOW,
        "started_at": NOW,
    }


def reason(row: dict[str, Any] | None, worker: str = "w1", attempt: int | None = 2) -> Reason:
    answer = refusal(row, worker, attempt)
    assert answer is not None
    return answer.reason


def test_a_job_that_is_not_there_is_unknown() -> None:
    assert reason(None) is Reason.UNKNOWN


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_job_that_is_over_is_finished_or_cancelled(state: State) -> None:
    expected = Reason.CANCELLED if state is State.CANCELLED else Reason.FINISHED
    assert reason(job(state)) is expected
    assert reason(job(state), attempt=None) is expected


def test_the_worker_that_has_the_job_is_granted_it_again() -> None:
    answer = refusal(job(State.RUNNING), "w1", 2)
    assert answer is not None
    assert (answer.reason, answer.attempt, answer.started_at) == (Reason.GRANTED, 2, NOW)


@pytest.mark.parametrize(("worker", "attempt"), [("w2", 2), ("w1", 1), ("w1", 3), ("w2", None)])
def test_a_running_job_is_held_for_everybody_else(worker: str, attempt: int | None) -> None:
    assert reason(job(State.RUNNING), worker, attempt) is Reason.HELD


@pytest.mark.parametrize("state", [State.WAITING, State.QUEUED])
@pytest.mark.parametrize("attempt", [1, 3, None])
def test_a_waiting_job_is_held_for_a_message_of_another_attempt(
    state: State, attempt: int | None
) -> None:
    assert reason(job(state, worker=None), attempt=attempt) is Reason.HELD


@pytest.mark.parametrize("state", [State.WAITING, State.QUEUED])
def test_a_job_that_could_be_had_after_all_is_not_refused(state: State) -> None:
    """Its message would be dropped, and nobody would ever have it."""
    assert refusal(job(state, worker=None), "w1", 2) is None
