"""The pika lab scripts hand in their tasks and take exactly their results from a real broker."""

from __future__ import annotations

import json
import time
from typing import Any

import n_queens
import pika
import pytest
import sweep_amqp
from broker import LabError, ProjectQueues
from qslice import names
from qslice.messages.run import read_run

from tests.integration.examples.work import answering, count_queens, measure, post, result_of
from tests.support.lab import Lab


def _waiting(lab: Lab, queue: str) -> list[dict[str, Any]]:
    """Take all that lies on a queue."""
    found = []
    with pika.BlockingConnection(pika.URLParameters(lab.admin_url)) as connection:
        channel = connection.channel()
        while (got := channel.basic_get(queue, auto_ack=True))[0]:
            found.append(json.loads(got[2]))
    return found


def test_a_sweep_over_the_queue_reports_every_point_once(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(lab, measure):
        assert sweep_amqp.main(["--distances", "0:100:10", "--json"]) == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    distances = sorted(result["result"]["distance_km"] for result in results)
    assert distances == [float(km) for km in range(0, 101, 10)]
    assert len({result["job_id"] for result in results}) == 11


def test_a_point_that_failed_ends_the_sweep_with_its_reason(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail_at_10(command: list[str]) -> dict[str, Any]:
        if "10" not in command:
            return measure(command)
        error = {"owner": "user", "code": "exit_code", "message": "exit code 2"}
        return {"state": "failed", "error": error}

    with answering(lab, fail_at_10):
        assert sweep_amqp.main(["--distances", "0,10,20"]) == 1
    printed = capsys.readouterr()
    assert "1 of 3 points did not succeed" in printed.err
    assert "10 km  failed: exit code 2" in printed.err
    assert printed.out.count("bits per pulse") == 2


def test_n_queens_sums_what_the_tasks_printed(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(lab, count_queens):
        assert n_queens.main(["6"]) == 0
        assert n_queens.main(["8"]) == 0
    assert "8 queens: 92 solutions" in capsys.readouterr().err


def test_a_wrong_total_is_not_taken_for_the_answer(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(lab, lambda _: {"Resultat": "1"}):
        assert n_queens.main(["8"]) == 1
    assert "8 queens have 92 solutions, not 8" in capsys.readouterr().err


def test_tasks_are_on_the_queue_durably_and_in_a_form_that_the_platform_reads(lab: Lab) -> None:
    task = {"ID_projet": 1, "ID_tache": 2, "URL_git": "https://git.example/q.git", "CMD": "q 8 2"}
    with ProjectQueues.from_environment() as queues:
        queues.submit(task)
    with pika.BlockingConnection(pika.URLParameters(lab.admin_url)) as connection:
        method, properties, body = connection.channel().basic_get(names.todo(lab.project))
    assert method is not None
    assert (properties.delivery_mode, properties.content_type) == (2, "application/json")
    run, read = read_run(body)
    assert (run.id, run.command) == ("1/2", ["q", "8", "2"])
    assert read is not None


def test_results_of_others_stay_on_done(lab: Lab) -> None:
    post(lab, result_of(lab, "other-1"), result_of(lab, "mine"), result_of(lab, "other-2"))
    with ProjectQueues.from_environment() as queues:
        assert [result["id"] for result in queues.results({"mine"})] == ["mine"]
    left = _waiting(lab, names.done(lab.project))
    assert sorted(result["id"] for result in left) == ["other-1", "other-2"]


def test_a_result_whose_handling_crashed_comes_again(lab: Lab) -> None:
    post(lab, result_of(lab, "a"), result_of(lab, "b"))
    with ProjectQueues.from_environment() as queues:
        reading = queues.results({"a", "b"})
        assert [next(reading)["id"], next(reading)["id"]] == ["a", "b"]
        reading.close()
    with ProjectQueues.from_environment() as queues:
        assert [result["id"] for result in queues.results({"b"})] == ["b"]
    assert _waiting(lab, names.done(lab.project)) == []


def test_silence_ends_with_the_open_tasks_and_not_for_ever(lab: Lab) -> None:
    post(lab, result_of(lab, "a"))
    before = time.monotonic()
    with (
        ProjectQueues.from_environment() as queues,
        pytest.raises(LabError, match=r"no result for 1 s; still open: 1 \(b\).*lab\.Dead"),
    ):
        list(queues.results({"a", "b"}, silence_s=1))
    assert time.monotonic() - before > 1


def test_a_task_for_a_project_without_queues_is_refused_and_not_dropped(lab: Lab) -> None:
    with pika.BlockingConnection(pika.URLParameters(lab.admin_url)) as connection:
        connection.channel().queue_delete(names.todo(lab.project))
    with (
        ProjectQueues.from_environment() as queues,
        pytest.raises(LabError, match=r"there is no queue lab\.ToDo"),
    ):
        queues.submit({"id": "x"})


def test_another_projects_queues_are_closed_to_the_labs_user(lab: Lab) -> None:
    stranger = ProjectQueues(lab.amqp_url, "stranger")
    with stranger, pytest.raises(LabError, match=r"refused the task.*ACCESS_REFUSED"):
        stranger.submit({"id": "x"})
    with stranger, pytest.raises(LabError, match=r"cannot read stranger\.Done.*ACCESS_REFUSED"):
        next(stranger.results({"x"}))


def test_a_missing_setting_and_a_broker_that_is_not_there_are_told_plainly(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QSLICE_AMQP_URL", "amqp://nobody:wrong@127.0.0.1:1/none")
    assert sweep_amqp.main(["--distances", "0"]) == 1
    assert "cannot connect to RabbitMQ with QSLICE_AMQP_URL" in capsys.readouterr().err
    monkeypatch.setenv("QSLICE_AMQP_URL", lab.amqp_url.replace("lab-", "who-"))
    assert sweep_amqp.main(["--distances", "0"]) == 1
    assert "ProbableAuthenticationError" in capsys.readouterr().err
    monkeypatch.delenv("QSLICE_AMQP_URL")
    assert sweep_amqp.main(["--distances", "0"]) == 1
    assert "QSLICE_AMQP_URL is not set: run `. .run/env`" in capsys.readouterr().err
