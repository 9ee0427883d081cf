"""Handing in, looking at and ending jobs on the command line, against the real gateway."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from qslice.sdk import Client
from qslice.states import State

from tests.integration.cli.conftest import Qslice

REPOSITORY = "https://git.example/qkd/bb84.git"
COMMAND = ("--", "python", "/app/bb84.py", "--distance", "{distance}")


def test_a_run_with_every_option_is_handed_in(qslice: Qslice, client: Client) -> None:
    options = [
        *("--ref", "main", "--dockerfile", "docker/Dockerfile", "--id", "t-1"),
        *("--walltime", "60", "--cpus", "0.5", "--memory", "128", "--pids", "16", "--disk", "8"),
        *("--network", "-e", "SEED=1", "-e", "MODE=a=b", "-l", "sweep=s1", "--priority", "3"),
        *("--isolation", "batch"),
    ]
    done = qslice("submit", REPOSITORY, *options, *COMMAND)
    assert (done.code, done.err) == (0, "")
    [job_id] = done.lines
    payload = (client.job(job_id).model_extra or {})["payload"]
    assert payload == {
        "repository": REPOSITORY,
        "command": list(COMMAND[1:]),
        "ref": "main",
        "dockerfile": "docker/Dockerfile",
        "id": "t-1",
        "walltime_s": 60.0,
        "limits": {"cpus": 0.5, "memory_mb": 128, "pids": 16, "disk_mb": 8, "network": True},
        "env": {"SEED": "1", "MODE": "a=b"},
        "labels": {"sweep": "s1"},
        "priority": 3,
        "isolation": "batch",
    }


def test_a_run_in_a_file_is_handed_in_and_options_come_on_top(
    qslice: Qslice, client: Client, tmp_path: Path
) -> None:
    run = {"repository": REPOSITORY, "command": ["a"], "limits": {"cpus": 1, "pids": 4}}
    (tmp_path / "run.json").write_bytes(orjson.dumps(run))
    done = qslice("submit", "-f", str(tmp_path / "run.json"), "--cpus", "2", "--json")
    payload = (client.job(done.json["job_id"]).model_extra or {})["payload"]
    assert payload["command"] == ["a"]
    assert (payload["limits"]["cpus"], payload["limits"]["pids"]) == (2.0, 4)
    task = {"ID_projet": 1, "ID_tache": 2, "URL_git": REPOSITORY, "CMD": "run 2"}
    assert qslice("submit", "-f", "-", "--json", stdin=orjson.dumps(task).decode()).json["id"] == (
        "1/2"
    )
    assert qslice("submit", "-f", "-", stdin="{").code == 2
    assert "cannot be read" in qslice("submit", "-f", str(tmp_path / "none")).err


@pytest.mark.usefixtures("system")
def test_an_error_of_the_gateway_is_one_line_that_names_the_field(qslice: Qslice) -> None:
    done = qslice("submit", "ext::sh", "--cpus", "0", "--", "x")
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1
    assert done.err.startswith("qslice: repository: ")
    assert "limits.cpus: " in done.err


def test_a_sweep_is_handed_in_by_parameters_or_by_points(
    qslice: Qslice, client: Client, tmp_path: Path
) -> None:
    done = qslice("sweep", REPOSITORY, "-P", "distance=0:40:10", "-P", "mu=0.1,0.5", *COMMAND)
    [batch_id] = done.lines
    assert client.batch(batch_id).total == 10
    (tmp_path / "points.csv").write_text("distance,mu\n5,0.5\n7.5,0.25\n")
    points = ("--points", str(tmp_path / "points.csv"), "--name", "fine", "--request-id", "r1")
    done = qslice("sweep", REPOSITORY, *points, "--json", *COMMAND)
    assert done.json["total"] == 2
    assert qslice("sweep", REPOSITORY, *points, "--json", *COMMAND).json == done.json
    distances = {job.labels["distance"] for job in client.jobs(batch=done.json["batch_id"])}
    assert distances == {"5", "7.5"}
    listed = qslice("batches")
    assert [line.split()[0] for line in listed.lines[1:]] == [done.json["batch_id"], batch_id]
    assert len(qslice("batches", "--json", "--limit", "1").json) == 1


def test_jobs_are_listed_by_state_and_label(qslice: Qslice, client: Client) -> None:
    for number in range(3):
        client.submit({"repository": REPOSITORY, "command": ["x"], "labels": {"n": str(number)}})
    client.cancel(next(client.jobs(labels={"n": "1"})))
    assert [job["labels"] for job in qslice("jobs", "--json").json] == [
        {"n": "2"},
        {"n": "1"},
        {"n": "0"},
    ]
    assert [
        job["labels"]["n"] for job in qslice("jobs", "--state", "cancelled", "--json").json
    ] == ["1"]
    assert len(qslice("jobs", "--limit", "2").lines) == 3
    header, row = qslice("jobs", "-l", "n=2").lines
    assert header.split()[:3] == ["JOB", "ID", "STATE"]
    assert "waiting" in row
    assert row.endswith("n=2")


def test_a_job_is_shown_by_its_own_id_too(qslice: Qslice, client: Client) -> None:
    ref = client.submit({"repository": REPOSITORY, "command": ["x", "y z"], "id": "t-1"})
    shown = qslice("show", "t-1")
    assert f"job         {ref.job_id}" in shown.lines
    assert 'command     ["x","y z"]' in shown.lines
    assert qslice("show", ref.job_id, "--json").json["id"] == "t-1"
    missing = qslice("show", "t-2")
    assert (missing.code, missing.err) == (
        1,
        "qslice: the project lab has no job whose id is 't-2'\n",
    )
    cut = qslice("show", ref.job_id[:-1])
    assert (cut.code, "no whole identifier" in cut.err) == (1, True)


def test_jobs_and_sweeps_are_cancelled_and_jobs_tried_again(qslice: Qslice, client: Client) -> None:
    ref = client.submit({"repository": REPOSITORY, "command": ["x"], "id": "t-1"})
    batch = client.sweep({"repository": REPOSITORY, "command": ["x"]}, grid={"n": range(3)})
    done = qslice("cancel", "t-1", batch.batch_id)
    assert done.lines == [
        f"{ref.job_id} is cancelled",
        f"{batch.batch_id}: 3 of 3 jobs are over",
    ]
    [again] = qslice("retry", "t-1").lines
    assert client.job(again).state is State.WAITING
    refused = qslice("retry", again)
    assert (refused.code, refused.err.count("\n")) == (1, 1)


def test_watching_a_sweep_writes_a_line_for_each_change_and_tells_by_its_exit_code(
    qslice: Qslice, client: Client
) -> None:
    batch = client.sweep({"repository": REPOSITORY, "command": ["x"]}, grid={"n": range(3)})
    batch.cancel()
    done = qslice("watch", batch.batch_id)
    assert (done.code, done.lines) == (1, ["3/3  3 cancelled"])
    last = qslice("watch", batch.batch_id, "--json").json_lines[-1]
    assert (last["batch_id"], last["counts"]) == (batch.batch_id, {"cancelled": 3})


def test_watching_a_job_tells_what_happened(qslice: Qslice, client: Client) -> None:
    ref = client.submit({"repository": REPOSITORY, "command": ["x"]})
    client.cancel(ref)
    done = qslice("watch", ref.job_id)
    assert done.code == 1
    assert done.lines[-1].startswith("cancelled: ")
    assert any(line.split()[2] == "cancelled" for line in done.lines[:-1])
    assert qslice("watch", ref.job_id, "--json").json_lines[-1]["state"] == "cancelled"


def test_results_are_a_table_json_or_csv(qslice: Qslice, client: Client) -> None:
    batch = client.sweep({"repository": REPOSITORY, "command": ["x"]}, grid={"n": range(3)})
    assert len(qslice("results", batch.batch_id).lines) == 1
    batch.cancel()
    table = qslice("results", batch.batch_id).lines
    assert table[0].split() == ["N", "STATE", "SECONDS", "RESULT", "ERROR"]
    assert [line.split()[:2] for line in table[1:]] == [[str(n), "cancelled"] for n in range(3)]
    for words in (("--json",), ("--json", "--follow")):
        found = qslice("results", batch.batch_id, *words).json_lines
        assert [result["labels"]["n"] for result in found] == ["0", "1", "2"]
    assert qslice("results", batch.batch_id, "-f").lines[0].startswith("n=0  cancelled  ")
    csv = qslice("results", batch.batch_id, "--csv").lines
    assert csv[0].startswith("batch_index,job_id,")
    assert len(csv) == 4


def test_the_log_of_a_job_that_wrote_nothing_is_empty(qslice: Qslice, client: Client) -> None:
    ref = client.cancel(client.submit({"repository": REPOSITORY, "command": ["x"]}))
    for words in ((), ("-f",), ("--json",)):
        done = qslice("logs", ref.job_id, *words)
        assert (done.code, done.out) == (0, "")


@pytest.mark.usefixtures("system")
def test_dead_messages_are_listed_and_a_missing_one_is_told(qslice: Qslice) -> None:
    assert qslice("dead", "list", "--json").json == []
    assert qslice("dead", "list").lines == ["MESSAGE  AT  FAULT OF  FIELD  REASON  REPLAYED AS"]
    done = qslice("dead", "replay", "7")
    assert (done.code, "no dead letter" in done.err) == (1, True)
    assert qslice("dead", "delete", "7").code == 1


def test_a_gateway_that_is_not_there_is_one_line(
    qslice: Qslice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qslice.cli.output.PATIENCE_S", 0.2)
    monkeypatch.setenv("QSLICE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("QSLICE_PROJECT", "lab")
    done = qslice("jobs")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "does not answer" in done.err
