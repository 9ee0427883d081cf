"""From a submit's body to the jobs that are written."""

from typing import Any

import orjson
import pytest
from qslice.messages.run import MAX_BODY, read_run
from qslice_gateway.problems import Problem
from qslice_gateway.submission import Read, read

RUN: dict[str, Any] = {
    "repository": "https://git.example/qkd/bb84.git",
    "command": ["python", "/app/bb84.py"],
}
TASK: dict[str, Any] = {
    "ID_projet": 1,
    "ID_tache": 3,
    "URL_git": "https://git.example/n_dames.git",
    "CMD": "python3 /n_dame.py '[0,-1]'",
}


def jobs(body: Any, most: int = 100) -> list[Read]:
    return read(orjson.dumps(body), most)[0]


def refused(body: Any, most: int = 100) -> Problem:
    with pytest.raises(Problem) as raised:
        read(body if isinstance(body, bytes) else orjson.dumps(body), most)
    return raised.value


def fields(body: Any) -> list[str]:
    return [error["field"] for error in refused(body).errors]


def test_one_run_becomes_the_message_that_a_worker_reads() -> None:
    (job,) = jobs({**RUN, "id": "t-10km", "labels": {"sweep": "s1"}, "priority": 3})
    message, task = read_run(orjson.dumps(job.payload))
    assert task is None
    assert message.command == RUN["command"]
    assert (job.producer_id, job.labels, job.priority) == ("t-10km", {"sweep": "s1"}, 3)


def test_the_envelope_does_not_reach_the_worker() -> None:
    (job,) = jobs({**RUN, "kind": "run", "request_id": "r1"})
    assert not {"kind", "request_id"} & set(job.payload)


def test_a_task_in_the_tps_form_stays_in_it() -> None:
    (job,) = jobs(TASK)
    assert job.payload == TASK
    assert job.producer_id == "1/3"
    _, task = read_run(orjson.dumps(job.payload))
    assert task is not None


def test_a_request_id_gives_keys_to_jobs_that_have_none() -> None:
    assert jobs({**RUN, "request_id": "r1"})[0].producer_id == "request:r1"
    many = jobs({"jobs": [RUN, {**RUN, "id": "own"}, RUN, TASK], "request_id": "r1"})
    assert [job.producer_id for job in many] == ["request:r1:0", "own", "request:r1:2", "1/3"]
    assert jobs(RUN)[0].producer_id is None


def test_one_job_in_a_list_is_still_a_list() -> None:
    assert read(orjson.dumps({"jobs": [RUN]}), 10)[1] is False
    assert read(orjson.dumps(RUN), 10)[1] is True


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"", "not_json"), (b"{", "not_json"), (b"\xff", "not_json"), (b"[1]", "invalid")],
)
def test_what_is_no_json_object_is_refused(body: bytes, code: str) -> None:
    assert refused(body).code == code


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"repository": "ext::sh -c touch% /tmp/pwned"}, "repository"),
        ({"repository": "--upload-pack=/bin/sh"}, "repository"),
        ({"repository": None}, "repository"),
        ({"ref": "--output=/etc/passwd"}, "ref"),
        ({"dockerfile": "../Dockerfile"}, "dockerfile"),
        ({"command": []}, "command"),
        ({"command": "python bb84.py"}, "command"),
        ({"command": ["python", 7]}, "command.1"),
        ({"limits": {"memory_mb": "512"}}, "limits.memory_mb"),
        ({"limits": {"memory": 512}}, "limits.memory"),
        ({"limits": {"network": 1}}, "limits.network"),
        ({"env": {"A-B": "1"}}, "env"),
        ({"priority": 10}, "priority"),
        ({"priority": "3"}, "priority"),
        ({"kind": "openstack"}, "kind"),
        ({"user": "root"}, "user"),
        ({"request_id": ""}, "request_id"),
        ({"request_id": 7}, "request_id"),
        ({"env": {"A": "\x00"}}, "env.A"),
        ({"id": "a\x00b"}, "id"),
    ],
    ids=str,
)
def test_each_wrong_field_is_named(changed: dict[str, Any], field: str) -> None:
    assert field in fields({**RUN, **changed})


def test_all_wrong_fields_are_named_at_once() -> None:
    assert fields({"command": [], "priorty": 1}) == ["repository", "command", "priorty"]


def test_of_many_jobs_the_wrong_one_is_named() -> None:
    assert fields({"jobs": [RUN, {**RUN, "walltime_s": -1}]}) == ["jobs.1.walltime_s"]
    assert fields({"jobs": [RUN, 7]}) == ["jobs.1"]
    assert fields({"jobs": [{**TASK, "CMD": "'"}]}) == ["jobs.0"]
    assert fields({"jobs": [{**TASK, "URL_git": "ftp://x/y"}]}) == ["jobs.0.URL_git"]
    assert fields({"jobs": [{**RUN, "request_id": "r"}]}) == ["jobs.0.request_id"]
    assert fields({"jobs": []}) == ["jobs"]
    assert fields({"jobs": {}}) == ["jobs"]
    assert fields({"jobs": [RUN], "requestid": "r"}) == ["requestid"]


def test_more_jobs_than_allowed_are_refused() -> None:
    assert refused({"jobs": [RUN] * 3}, most=2).code == "too_many_jobs"


def test_a_job_that_no_worker_would_read_is_refused_here() -> None:
    large = {**RUN, "env": {f"V{number}": "x" * 30_000 for number in range(10)}}
    assert len(orjson.dumps(large)) > MAX_BODY
    assert refused(large).code == "invalid"
    assert refused({"jobs": [RUN, large]}).errors[0]["field"] == "jobs.1"
