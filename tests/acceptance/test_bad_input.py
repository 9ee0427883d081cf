"""Bad input through the whole system: who is told what, and that the good goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pika
import pytest
from qslice import names
from qslice.faults import Owner
from qslice.messages.result import Result
from qslice.sdk import Client, Lab
from qslice.states import State

from tests.acceptance.conftest import RunnerLab
from tests.support.counting import results_on_done
from tests.support.git import DOCKERFILE
from tests.support.wait import wait_for

SAYS = ["sh", "-c", "echo the fibre is cut; exit 3"]
EATS = "print('eats', flush=True); b = b'x' * 300_000_000; print(len(b))"
SLEEPS = "import time; print('sleeps', flush=True); time.sleep(600)"


@dataclass
class Place:
    """A project on a running system with a runner, its own RabbitMQ user, and a repository."""

    lab: RunnerLab
    client: Client
    amqp_url: str
    repository: str

    @property
    def project(self) -> str:
        return str(self.client.project)

    def good(self, id_: str, **fields: Any) -> dict[str, Any]:
        """A run that succeeds."""
        command = ["echo", id_]
        return {"repository": self.repository, "command": command, "id": id_, **fields}

    def publish(self, *bodies: bytes) -> None:
        """As a lab's own script, without the SDK."""
        with pika.BlockingConnection(pika.URLParameters(self.amqp_url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            for body in bodies:
                channel.basic_publish(names.EXCHANGE_TODO, names.todo(self.project), body)

    def results(self, id_: str) -> list[Result]:
        """What Done holds; waits until something of this run is there."""
        found: list[Result] = []

        def is_there() -> bool:
            found.extend(results_on_done(self.lab.broker_url, self.project))
            return any(result.id == id_ for result in found)

        wait_for(is_there, 120, f"the result of {id_} on Done")
        return found

    def check_the_good_goes_on(self, id_: str) -> None:
        self.publish(json.dumps(self.good(id_)).encode())
        [result] = self.results(id_)
        assert (result.id, result.state, result.stdout) == (id_, State.SUCCEEDED, f"{id_}\n")


@pytest.fixture(scope="module")
def running(running_lab: RunnerLab) -> tuple[RunnerLab, str]:
    """A lab with one runner, and the address of a repository."""
    running_lab.runner()
    return running_lab, running_lab.repository("good", {"Dockerfile": DOCKERFILE})


@pytest.fixture
def place(running: tuple[RunnerLab, str]) -> Iterator[Place]:
    lab, repository = running
    client = lab.project()
    yield Place(lab, client, client.broker_user().amqp_url, repository)
    client.delete_project(str(client.project), force=True)


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        pytest.param(b"{'id': 1}", "", "not JSON", id="no JSON"),
        pytest.param(b'{"command": ["true"]}', "repository", "required", id="a missing field"),
        pytest.param(
            b'{"repository": "https://git.example/a", "command": "true"}',
            "command",
            "list",
            id="a field of another type",
        ),
        pytest.param(
            b'{"repository": "https://git.example/a", "command": ["true"], "colour": "red"}',
            "colour",
            "unknown field",
            id="an unknown field",
        ),
    ],
)
def test_a_message_that_cannot_be_read_goes_to_dead_and_the_next_one_runs(
    place: Place, body: bytes, field: str, reason: str
) -> None:
    place.publish(body)
    place.check_the_good_goes_on("after")
    with Lab(place.amqp_url, place.project) as lab:
        [(letter, message)] = wait_for(lambda: list(lab.dead_letters()), what="a message on Dead")
    assert message == body
    assert (letter.field, letter.owner, letter.queue) == (field, "user", f"{place.project}.ToDo")
    assert reason in letter.reason
    [kept] = wait_for(lambda: list(place.client.dead()), what="the gateway's copy")
    assert (kept.field or "", kept.reason, kept.body) == (field, letter.reason, body.decode())


@pytest.mark.parametrize(
    ("files", "run", "state", "code", "last"),
    [
        pytest.param(
            {"README": "no recipe\n"}, {}, State.FAILED, "dockerfile_missing", "Dockerfile"
        ),
        pytest.param(
            {"Dockerfile": DOCKERFILE + "RUN echo no compiler && exit 7\n"},
            {},
            State.FAILED,
            "build_failed",
            "no compiler",
        ),
        pytest.param(None, {"command": ["bb85"]}, State.FAILED, "command_not_found", "bb85"),
        pytest.param(None, {"command": SAYS}, State.FAILED, "exit_code", "the fibre is cut"),
        pytest.param(
            None,
            {"command": ["python", "-c", EATS], "limits": {"memory_mb": 64}},
            State.FAILED,
            "out_of_memory",
            "eats",
        ),
        pytest.param(
            None,
            {"command": ["python", "-c", SLEEPS], "walltime_s": 3},
            State.TIMED_OUT,
            "walltime",
            "sleeps",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "_" in value else None,
)
def test_a_run_that_cannot_succeed_fails_by_its_user_s_fault_and_says_why(
    place: Place,
    files: dict[str, str] | None,
    run: dict[str, Any],
    state: State,
    code: str,
    last: str,
) -> None:
    repository = place.lab.repository(code, files) if files else place.repository
    run = {**place.good("bad"), **run, "repository": repository}
    check_failure(place, run, state, code, last)


def test_a_repository_that_is_not_there_is_its_user_s_fault(place: Place) -> None:
    nowhere = f"{place.lab.git.as_uri()}/nowhere.git"
    run = {**place.good("bad"), "repository": nowhere}
    check_failure(place, run, State.FAILED, "repository_not_found", "nowhere.git")


def check_failure(place: Place, run: dict[str, Any], state: State, code: str, last: str) -> None:
    """REST and Done tell the same: state, owner, code, and the last lines of what was said."""
    job = place.client.wait(place.client.submit(run), 180)
    [result] = place.results("bad")
    for told in (job, result):
        assert told.state is state, told
        assert told.error is not None
        assert (told.error.owner, told.error.code) == (Owner.USER, code)
        said = f"{told.error.message}\n{told.stdout}\n{told.stderr}"
        assert last in said, said
    assert (result.job_id, result.attempt) == (job.job_id, 1)


def test_the_log_of_a_run_that_failed_is_kept_without_its_container(place: Place) -> None:
    failing = place.lab.repository(
        "loud", {"Dockerfile": DOCKERFILE + "RUN echo the build speaks\n"}
    )
    job = place.client.submit({**place.good("bad"), "repository": failing, "command": SAYS})
    assert place.client.wait(job, 180).exit_code == 3
    wait_for(
        lambda: not place.lab.containers(**{"qslice.job": job.job_id}), what="the container gone"
    )
    wait_for(lambda: "the fibre is cut" in place.client.log_text(job), what="the whole log")
    assert "the build speaks" in place.client.log_text(job)


def test_the_same_id_published_twice_runs_once(place: Place) -> None:
    twice = json.dumps(place.good("twice")).encode()
    place.publish(twice, twice, json.dumps(place.good("after")).encode())
    results = place.results("twice")
    if "after" not in {result.id for result in results}:
        results += place.results("after")
    assert len({result.job_id for result in results}) == 2
    jobs = {job.id: job for job in place.client.jobs()}
    assert set(jobs) == {"twice", "after"}
    told = [event.type for event in place.client.events(jobs["twice"])]
    assert told.count("started") == 1, told


def test_a_finished_job_published_again_is_answered_with_its_result(place: Place) -> None:
    again = json.dumps(place.good("again")).encode()
    place.publish(again)
    [first] = place.results("again")
    place.publish(again)
    [second] = place.results("again")
    assert second == first
    [job] = place.client.jobs()
    assert (job.job_id, job.attempt, job.state) == (first.job_id, 1, State.SUCCEEDED)
