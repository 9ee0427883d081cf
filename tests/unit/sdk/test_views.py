"""The gateway's answers as objects."""

import pytest
from qslice.sdk.errors import Unreachable
from qslice.sdk.models import BatchSummary, BrokerUser, Job

JOB = {"job_id": "job_localhost_1", "project": "bb84", "kind": "run", "attempt": 1}


def test_what_a_newer_gateway_adds_is_kept() -> None:
    job = Job.of({**JOB, "state": "running", "node": "lab-3"})
    assert not job.is_final
    assert job.document()["node"] == "lab-3"


def test_an_answer_that_is_no_job_is_told_as_such() -> None:
    with pytest.raises(Unreachable, match="another version"):
        Job.of({"state": "running"})


def test_a_batch_counts_what_is_over_whatever_its_end() -> None:
    counts = {"succeeded": 3, "failed": 1, "timed_out": 1, "dead": 1, "cancelled": 1, "running": 2}
    summary = BatchSummary.of({"batch_id": "b", "total": 9, "counts": counts})
    assert (summary.finished, summary.is_final) == (7, False)


def test_a_broker_users_password_is_in_no_text_of_it() -> None:
    user = BrokerUser(amqp_url="amqp://u:sesame@h", username="u", password="sesame")
    assert "sesame" not in f"{user} {user!r}"


def test_an_answer_that_is_not_understood_is_told_without_its_values() -> None:
    with pytest.raises(Unreachable, match="username") as told:
        BrokerUser.of({"amqp_url": "amqp://u:sesame@h", "password": "sesame"})
    assert "sesame" not in str(told.value)
