"""The demonstration follows lab scripts as processes, and stops with the reason where one fails."""

from __future__ import annotations

from typing import Any

import pytest
from broker import LabError
from verdict import Point

from examples import demo
from tests.integration.examples.work import answering, count_queens, measure, post, result_of
from tests.support.lab import Lab


def test_without_a_terminal_every_result_is_a_plain_line(
    lab: Lab, capfd: pytest.CaptureFixture[str]
) -> None:
    with answering(lab, count_queens):
        demo.count_queens()
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "== 8 queens, one task per first-row column, in the course's message form"
    assert lines[1] == "  $ python examples/lab/n_queens.py 8"
    assert lines[2] == "    1/8  column 0: 4"
    assert len(lines) == 11
    assert lines[-1] == "  8 queens: 92 solutions, as is known"


def test_a_sweep_gives_points_that_agree_with_theory(
    lab: Lab, capfd: pytest.CaptureFixture[str]
) -> None:
    with answering(lab, measure):
        points = demo.sweep("amqp", "sweep_amqp.py", "0:140:20")
    assert [point.distance_km for point in points] == [0, 20, 40, 60, 80, 100, 120, 140]
    assert "all 8 points agree with the closed form" in capfd.readouterr().out


def test_a_script_that_fails_ends_the_demonstration_with_what_it_said(lab: Lab) -> None:
    def fail(_: list[str]) -> dict[str, Any]:
        return {"state": "failed", "error": {"message": "no such file: /app/bb84.py"}}

    with answering(lab, fail), pytest.raises(LabError) as failed:
        demo.sweep("amqp", "sweep_amqp.py", "0:140:20")
    assert "python examples/lab/sweep_amqp.py --distances 0:140:20 ended with 1" in str(
        failed.value
    )
    assert "no such file: /app/bb84.py" in str(failed.value)


def test_rest_and_done_that_disagree_end_the_demonstration(lab: Lab) -> None:
    told = result_of(lab, "s/10", result={"key_rate": 1})
    post(lab, told, told)
    demo.compare_with_done([told])
    post(lab, told)
    with pytest.raises(LabError, match=f"different results of job {told['job_id']}"):
        demo.compare_with_done([told | {"result": {"key_rate": 2}}])


def test_the_end_tells_addresses_and_logins_apart(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QSLICE_URL", "http://127.0.0.1:8080/")
    monkeypatch.setenv("QSLICE_AMQP_URL", "amqp://lab:p%2Fw@127.0.0.1:5672/qslice")
    monkeypatch.setenv("QSLICE_RABBITMQ_CONSOLE", "http://127.0.0.1:15672/")
    monkeypatch.setenv("QSLICE_GIT_DIR", "/srv/git")
    result = result_of(Lab("lab", "", ""), "s/10", labels={"distance": "10"})
    command = ["python", "/app/bb84.py", "--distance", "10", "--pulses", "1e9", "--seed", "1"]
    points = [Point.of("amqp", result | measure(command))]
    demo.show_where_to_look(points)
    printed = capfd.readouterr().out
    assert "http://127.0.0.1:8080/docs\n" in printed
    assert "http://127.0.0.1:15672/\n" in printed
    assert "lab / p/w\n" in printed
    assert f"  .venv/bin/qslice logs {result['job_id']}\n" in printed
    monkeypatch.setenv("QSLICE_RABBITMQ_CONSOLE", "http://admin:secret@127.0.0.1:15672/")
    demo.show_where_to_look(points)
    printed = capfd.readouterr().out
    assert "  http://127.0.0.1:15672/\n" in printed.replace("RabbitMQ     ", "  ")
    assert "admin / secret\n" in printed
