"""Messages as the handler reads them, and what a command finds in its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from qslice.messages.base import Rejected
from qslice_runner.handler import RunHandler, environment, shared_by
from qslice_runner.labels import filters, own_labels
from qslice_runner.settings import RunnerSettings

from tests.support.runs import RecordedJob
from tests.unit.runner.settings import settings

BASE = {"repository": "https://git.example/x.git", "command": ["python", "x.py"]}
TP = {"ID_projet": 1, "ID_tache": 7, "URL_git": "https://git.example/n.git", "CMD": "python n 8"}


def test_a_run_is_read_with_what_the_database_keeps_of_it() -> None:
    body = {**BASE, "id": "t1", "labels": {"sweep": "s"}, "priority": 3}
    task = RunHandler(settings()).read(orjson.dumps(body))
    assert task.payload == body
    assert (task.producer_id, task.labels, task.priority) == ("t1", {"sweep": "s"}, 3)


def test_the_tps_form_stays_what_it_is_for_the_next_attempt() -> None:
    handler = RunHandler(settings())
    task = handler.read(orjson.dumps(TP))
    assert task.payload == TP
    assert task.extra == {"ID_projet": 1, "ID_tache": 7}
    assert task.producer_id == "1/7"
    assert handler.read(orjson.dumps(task.payload)).request == task.request


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**BASE, "repository": "ext::sh -c x"}, "repository"),
        ({**BASE, "repository": "--upload-pack=x"}, "repository"),
        ({**BASE, "ref": "--output=/x"}, "ref"),
        ({**BASE, "dockerfile": "../Dockerfile"}, "dockerfile"),
        ({**BASE, "shell": True}, "shell"),
        ({"ID_projet": 1, "ID_tache": 7, "URL_git": "file://x/y", "CMD": "x"}, "URL_git"),
    ],
)
def test_a_message_that_could_do_more_than_run_is_rejected_naming_the_field(
    body: dict[str, object], field: str
) -> None:
    with pytest.raises(Rejected) as rejected:
        RunHandler(settings()).read(orjson.dumps(body))
    assert rejected.value.field.split(".")[0] == field


def test_a_command_finds_its_job_and_cannot_be_told_another() -> None:
    body = {**BASE, "env": {"QSLICE_JOB_ID": "other", "HOME": "/output", "SEED": "5"}}
    request = RunHandler(settings()).read(orjson.dumps(body)).request
    job = RecordedJob(request, attempt=2, batch_id="batch_1")
    found = environment(job, request.run, "c" * 40)
    assert found["QSLICE_JOB_ID"] == job.id
    assert found["QSLICE_ATTEMPT"] == "2"
    assert found["QSLICE_BATCH_ID"] == "batch_1"
    assert (found["HOME"], found["SEED"]) == ("/output", "5")


def test_only_a_batch_shares_containers_and_only_within_its_project() -> None:
    handler = RunHandler(settings())
    alone = handler.read(orjson.dumps(BASE)).request
    together = handler.read(orjson.dumps({**BASE, "isolation": "batch"})).request
    assert shared_by(RecordedJob(alone, batch_id="b"), alone.run) is None
    assert shared_by(RecordedJob(together), together.run) is None
    keys = {
        shared_by(RecordedJob(together, project=project, batch_id=batch), together.run)
        for project, batch in (("p", "b"), ("q", "b"), ("p", "c"))
    }
    assert len(keys - {None}) == 3


def test_everything_carries_the_labels_it_is_found_by() -> None:
    given = own_labels("host", "folder", "checkout")
    assert given["qslice.worker-host"] == "host"
    assert given["qslice.checkout"] == "checkout"
    assert "qslice.checkout" not in own_labels("host", "folder", None)
    assert filters({"a": "b"}) == {"label": ["a=b"]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"runner_state_dir": Path("state")},
        {"runner_state_dir": Path("/s"), "allow_file_repositories": Path("git")},
        {"runner_state_dir": Path("/s"), "git_ssh_key": Path("/key")},
    ],
)
def test_a_relative_folder_and_half_of_an_ssh_identity_are_no_settings(
    wrong: dict[str, Any],
) -> None:
    with pytest.raises(ValueError, match=r"must be an absolute path|belong together"):
        RunnerSettings(amqp_url="amqp://h", **wrong)
