"""From a script to its results, with gateway, ledger, broker and a worker for real."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import orjson
import pika
import pytest
from qslice import names
from qslice.sdk import Client, Lab
from qslice.states import State

from tests.support.system import System
from tests.support.wait import wait_for

REPOSITORY = "https://git.example/qkd/bb84.git"


def run(*command: str, **more: object) -> dict[str, object]:
    return {"repository": REPOSITORY, "command": list(command), **more}


@pytest.fixture
def whole(system: System) -> System:
    system.ledger()
    system.noop_worker(slots=4)
    return system


@pytest.fixture
def client(whole: System) -> Iterator[Client]:
    with whole.client("lab") as client:
        yield client


@pytest.fixture
def lab(client: Client) -> Iterator[Lab]:
    with Lab(client.broker_user().amqp_url, "lab") as lab:
        yield lab


def test_a_run_is_handed_in_waited_for_and_read(client: Client) -> None:
    job = client.wait(client.submit(run("print", "0.25")), timeout_s=120)
    assert (job.state, job.exit_code, job.stdout, job.error) == (
        State.SUCCEEDED,
        0,
        "0.25\n",
        None,
    )
    assert job.worker
    assert job.duration_s is not None


def test_a_run_that_fails_tells_whose_fault_it_is(client: Client) -> None:
    job = client.wait(client.submit(run("fail")), timeout_s=120)
    assert job.state is State.FAILED
    assert job.error is not None
    assert (job.error.owner, job.error.code) == ("user", "exit_code")
    assert job.stderr == "it does not work\n"


def test_a_log_is_followed_while_it_is_written(client: Client) -> None:
    ref = client.submit(run("sleep", "1"))
    lines = [(line.stream, line.text) for line in client.logs(ref, follow=True)]
    assert ("stdout", "sleeping 1 s\n") in lines
    assert client.job(ref).state is State.SUCCEEDED
    assert "sleeping 1 s\n" in client.log_text(ref)
    assert {"running", "succeeded"} <= {event.type for event in client.events(ref)}


def test_a_sweeps_results_come_while_it_runs_each_once(client: Client) -> None:
    batch = client.sweep(run("sleep", "{s}"), points=[{"s": 0.01}] * 30 + [{"s": 3}] * 2)
    seen: list[str] = []
    for result in batch.results(timeout_s=120):
        if not seen:
            assert not batch.summary().is_final
        seen.append(result.job_id)
    assert len(seen) == len(set(seen)) == 32
    assert batch.summary().counts == {State.SUCCEEDED: 32}


def test_results_go_on_after_a_restart_of_the_script(whole: System, tmp_path: Path) -> None:
    file = tmp_path / "seen"
    seen = []
    with whole.client("lab") as client:
        batch = client.sweep(run("print", "{n}"), grid={"n": range(20)})
        for result in client.results(batch, resume_file=file, timeout_s=120):
            seen.append(result.labels["n"])
            if len(seen) == 8:
                break  # As if it died while it handled the eighth.
    with whole.client("lab") as client:
        rest = [
            result.labels["n"]
            for result in client.results(batch.batch_id, resume_file=file, timeout_s=120)
        ]
        assert list(client.results(batch.batch_id, resume_file=file)) == []
    assert len(rest) == 13
    assert set(seen[:7]) | set(rest) == {str(n) for n in range(20)}


def test_a_job_that_is_tried_again_takes_its_place_in_the_results(client: Client) -> None:
    batch = client.sweep(run("sleep", "{s}"), points=[{"s": 0}, {"s": 3}])
    results = batch.results(timeout_s=120)
    first = next(results)
    assert first.labels["s"] == "0"
    assert client.wait(client.cancel(next(client.jobs(batch=batch, state="running")))).is_final
    again = client.retry(next(client.jobs(batch=batch, state="cancelled")))
    rest = [result.job_id for result in results]
    assert rest[-1] == again.job_id


def test_a_running_job_is_cancelled(client: Client) -> None:
    ref = client.submit(run("sleep", "600"))
    wait_for(lambda: client.job(ref).state is State.RUNNING, 120, "the job runs")
    client.cancel(ref)
    assert client.wait(ref, timeout_s=120).state is State.CANCELLED


def test_a_sweep_by_the_queue_has_its_results_on_done_and_in_rest(client: Client, lab: Lab) -> None:
    sweep = lab.sweep(run("print", "{n}"), grid={"n": range(25)}, name="s1")
    results = {result.id: result for result in lab.results(sweep, timeout_s=120)}
    assert set(results) == set(sweep)
    assert [results[id_].stdout for id_ in sweep] == [f"{n}\n" for n in range(25)]
    known = {job.id: job.job_id for job in client.jobs()}
    assert known == {id_: result.job_id for id_, result in results.items()}


def test_a_lab_script_that_starts_anew_runs_nothing_twice_and_gets_all_results(
    client: Client, lab: Lab
) -> None:
    sweep = lab.sweep(run("print", "{n}"), grid={"n": range(5)}, name="s1")
    first = {result.job_id for result in lab.results(sweep, timeout_s=120)}
    again = lab.sweep(run("print", "{n}"), grid={"n": range(5)}, name="s1")
    assert again == sweep
    assert {result.job_id for result in lab.results(again, timeout_s=120)} == first
    assert len(list(client.jobs())) == 5


def test_tasks_in_the_courses_form_have_results_with_its_keys(lab: Lab) -> None:
    tasks = [
        {"ID_projet": 1, "ID_tache": n, "URL_git": REPOSITORY, "CMD": f"print {n}"}
        for n in range(4)
    ]
    ids = lab.submit_many(tasks)
    assert ids == ["1/0", "1/1", "1/2", "1/3"]
    found = {
        (result.ID_projet, result.ID_tache): result.stdout.strip()
        for result in lab.results(ids, timeout_s=120)
    }
    assert found == {(1, n): str(n) for n in range(4)}


def test_results_of_the_other_way_in_are_left_on_done(client: Client, lab: Lab) -> None:
    batch = client.sweep(run("print", "rest-{n}"), grid={"n": range(10)})
    mine = lab.submit(run("print", "mine"))
    assert [result.stdout for result in lab.results([mine], timeout_s=120)] == ["mine\n"]
    batch.wait(timeout_s=120)
    assert {result.batch_id for result in lab.results(10, timeout_s=120)} == {batch.batch_id}


def test_a_message_that_cannot_be_read_is_dead_with_its_reason_by_both_ways(
    client: Client,
) -> None:
    body = orjson.dumps(run("print", "x", walltime=5))
    url = client.broker_user().amqp_url
    with pika.BlockingConnection(pika.URLParameters(url)) as by_hand:
        by_hand.channel().basic_publish(names.EXCHANGE_TODO, names.todo("lab"), body)
    with Lab(url, "lab") as lab:
        [(why, message)] = lab.dead_letters(timeout_s=10)
    assert (why.field, why.owner, why.queue) == ("walltime", "user", "lab.ToDo")
    assert "unknown field" in why.reason
    assert message == body
    [kept] = wait_for(lambda: list(client.dead()), 60, "the dead letter in REST")
    assert (kept.field, kept.body) == ("walltime", body.decode())
    assert client.replay(kept.id).replayed_as == "lab.ToDo"
    both = wait_for(lambda: [*client.dead()][1:] and [*client.dead()], 60, "dead once more")
    for letter in both:
        client.delete_dead(letter.id)
    assert list(client.dead()) == []


def test_two_scripts_share_a_project(client: Client) -> None:
    url = client.broker_user().amqp_url
    found: dict[str, list[str]] = {}

    def script(name: str) -> None:
        with Lab(url, "lab") as own:
            sweep = own.sweep(run("print", name), grid={"n": range(15)}, name=name)
            found[name] = [result.stdout for result in own.results(sweep, timeout_s=120)]

    threads = [threading.Thread(target=script, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert found == {"a": ["a\n"] * 15, "b": ["b\n"] * 15}
