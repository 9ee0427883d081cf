"""What becomes of an attempt that failed by no fault of the job."""

from typing import Any, Literal

import pytest
from qslice.backoff import Backoff
from qslice_gateway.ledger.failures import Failure, decide

ERROR = {"owner": "system", "code": "docker_unavailable", "message": "no engine"}
BACKOFF = Backoff(base=2, cap=8, limit=3)


def failure(why: Literal["fault", "released", "worker_lost"] = "fault") -> Failure:
    return Failure("job_1", 1, why, ERROR)


def row(faults: int = 0, cancelled: bool = False) -> dict[str, Any]:
    return {"job_id": "job_1", "faults": faults, "cancel_requested_at": cancelled or None}


@pytest.mark.parametrize("why", ["fault", "worker_lost"])
def test_a_failure_counts_and_is_tried_again_after_a_delay(
    why: Literal["fault", "worker_lost"],
) -> None:
    item = decide(row(faults=1), failure(why), BACKOFF)
    assert item["faults"] == 2
    assert 2 <= item["delay_s"] <= 4
    assert item["error"] == ERROR


def test_a_job_that_was_handed_back_counts_no_failure_and_waits_for_nothing() -> None:
    item = decide(row(faults=2), failure("released"), BACKOFF)
    assert (item["faults"], item["delay_s"]) == (2, 0.0)


def test_the_last_failure_gives_the_job_up_and_says_how_often_it_was_tried() -> None:
    item = decide(row(faults=2), failure(), BACKOFF)
    assert item["delay_s"] is None
    assert item["error"]["message"] == "Given up after 3 failures; the last: no engine"
    assert item["error"]["code"] == "docker_unavailable"


@pytest.mark.parametrize("why", ["fault", "released", "worker_lost"])
def test_a_job_that_was_to_be_cancelled_is_cancelled(
    why: Literal["fault", "released", "worker_lost"],
) -> None:
    item = decide(row(cancelled=True), failure(why), BACKOFF)
    assert item["error"]["code"] == "cancelled"
    assert item["error"]["owner"] == "user"
