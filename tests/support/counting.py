"""Counting what came out: accepted = finished, each once."""

from __future__ import annotations

from collections import Counter

import pika
from qslice import names
from qslice.messages.result import Result
from qslice.sdk.batch import Batch
from qslice.states import State

from tests.support.wait import wait_for


def results_on_done(broker_url: str, project: str) -> list[Result]:
    """Everything on the project's Done queue, in its order; it is empty afterwards."""
    found: list[Result] = []
    connection = pika.BlockingConnection(pika.URLParameters(broker_url))
    try:
        channel = connection.channel()
        while True:
            method, _, body = channel.basic_get(names.done(project), auto_ack=True)
            if method is None:
                return found
            found.append(Result.read(body))
    finally:
        connection.close()


def check_each_finished_once(batch: Batch, broker_url: str, total: int) -> list[Result]:
    """Every job of a batch succeeded, in the database and on Done; Done holds no two verdicts.

    A result may come twice on Done (at least once), but then it is the same attempt's.
    """
    summary = batch.summary()
    assert summary.total == total
    assert summary.counts.get(State.SUCCEEDED) == total, summary.counts
    results = results_on_done(broker_url, batch.project)
    verdicts = {(result.job_id, result.state, result.attempt) for result in results}
    assert len(verdicts) == total, Counter(result.state for result in results)
    assert len({result.job_id for result in results}) == total
    return results


def check_one_verdict(broker_url: str, project: str, job_id: str) -> Result:
    """The verdict on a job that is over: the only one, and all that Done holds."""
    results = wait_for(lambda: results_on_done(broker_url, project), what="a result on Done")
    verdicts = {(result.job_id, result.state, result.attempt) for result in results}
    assert len(verdicts) == 1, verdicts
    assert results[0].job_id == job_id
    return results[0]
