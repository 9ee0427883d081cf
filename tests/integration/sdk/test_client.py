"""The SDK over REST, against the real gateway: nothing twice, errors that name the field."""

from __future__ import annotations

import threading

import pytest
from qslice.sdk import ApiError, BrokerError, Client, Lab, Rejected, Run, Unconfigured, Unreachable
from qslice.states import State

from tests.support.processes import LOOPBACK, ProcessStarter, pick_free_port
from tests.support.proxy import TcpProxy
from tests.support.system import System
from tests.support.wait import wait_for

RUN = {
    "repository": "https://git.example/qkd/bb84.git",
    "command": ["python", "/app/bb84.py", "--distance", "{distance}"],
}


def test_a_project_is_made_once_however_often_it_is_asked_for(client: Client) -> None:
    first = client.create_project("bb84")
    assert client.create_project("bb84") == first
    assert [project.name for project in client.projects()] == ["bb84", "lab"]
    client.delete_project("bb84")
    assert [project.name for project in client.projects()] == ["lab"]


def test_a_submitted_run_is_listed_and_can_be_looked_at(client: Client) -> None:
    run = Run(repository=RUN["repository"], command=["true"], id="t-1", labels={"a": "b"})
    ref = client.submit(run)
    assert (ref.id, ref.state) == ("t-1", State.WAITING)
    job = client.job(ref)
    assert (job.job_id, job.id, job.project, job.kind) == (ref.job_id, "t-1", "lab", "run")
    assert (job.is_final, job.stdout) == (False, None)
    assert [one.job_id for one in client.jobs(labels={"a": "b"})] == [ref.job_id]
    assert [one.job_id for one in client.jobs(id="t-1", state="waiting,queued")] == [ref.job_id]
    assert list(client.jobs(labels={"a": "c"})) == []


def test_a_task_in_the_courses_form_is_taken(client: Client) -> None:
    task = {"ID_projet": 1, "ID_tache": 4, "URL_git": "https://git.example/q.git", "CMD": "run 4"}
    assert client.submit(task).id == "1/4"
    [again] = client.submit_many([task])
    assert again.job_id == client.submit(task).job_id


def test_a_submit_whose_answer_was_lost_is_one_job(proxied: tuple[Client, TcpProxy]) -> None:
    client, proxy = proxied
    proxy.lose_answers(2)
    ref = client.submit(RUN)
    assert proxy.lost == 2
    assert [job.job_id for job in client.jobs()] == [ref.job_id]


def test_many_runs_whose_answers_were_lost_are_each_one_job(
    proxied: tuple[Client, TcpProxy],
) -> None:
    client, proxy = proxied
    proxy.lose_answers(1)
    refs = client.submit_many([RUN] * 1500)
    assert proxy.lost == 1
    assert len({ref.job_id for ref in refs}) == 1500
    assert {job.job_id for job in client.jobs()} == {ref.job_id for ref in refs}


def test_a_sweep_whose_answer_was_lost_is_one_batch(proxied: tuple[Client, TcpProxy]) -> None:
    client, proxy = proxied
    proxy.lose_answers(1)
    batch = client.sweep(RUN, grid={"distance": range(0, 50, 10)}, name="s1")
    assert proxy.lost == 1
    assert [found.batch_id for found in client.batches()] == [batch.batch_id]
    assert len(list(client.jobs(batch=batch))) == batch.total == len(batch) == 5
    assert client.batch(batch.batch_id).total == 5


def test_the_same_request_id_of_another_process_is_the_same_job(
    system: System, client: Client
) -> None:
    first = client.submit(RUN, request_id="r-1")
    many = client.submit_many([RUN, RUN], request_id="r-2")
    with system.client("lab") as other:
        assert other.submit(RUN, request_id="r-1").job_id == first.job_id
        assert other.submit_many([RUN, RUN], request_id="r-2") == many


def test_a_wrong_field_is_named(client: Client) -> None:
    with pytest.raises(ApiError) as refused:
        client.submit({**RUN, "limits": {"cpus": 0}, "walltime": 5})
    assert (refused.value.status, refused.value.code) == (422, "invalid")
    assert {problem.field for problem in refused.value.fields} == {"limits.cpus", "walltime"}
    assert "walltime: unknown field" in str(refused.value)
    assert list(client.jobs()) == []


def test_a_placeholder_that_no_parameter_has_is_named(client: Client) -> None:
    with pytest.raises(ApiError, match=r"template\.command\.3.*\{distance\}"):
        client.sweep(RUN, grid={"length": [1]})
    with pytest.raises(Rejected, match="either a grid or points"):
        client.sweep(RUN)


def test_a_sweep_over_points_has_their_values_as_labels(client: Client) -> None:
    batch = client.sweep(RUN, points=[{"distance": 1, "mu": 0.5}, {"distance": 2, "mu": 0.25}])
    labels = sorted(job.labels["mu"] for job in client.jobs(batch=batch))
    assert labels == ["0.25", "0.5"]


def test_another_persons_project_does_not_exist(system: System, client: Client) -> None:
    ref = client.submit(RUN)
    with Client(system.url, system.tokens.make("mallory"), "lab") as mallory:
        for attempt in (lambda: mallory.submit(RUN), lambda: mallory.job(ref), mallory.broker_user):
            with pytest.raises(ApiError) as refused:
                attempt()
            assert refused.value.status == 404


def test_a_token_that_is_not_valid_is_told_as_such(system: System) -> None:
    for token in ("nonsense", None):
        with Client(system.url, token, "lab") as client, pytest.raises(ApiError) as refused:
            list(client.jobs())
        assert refused.value.status == 401


def test_a_waiting_job_is_cancelled_at_once_and_can_be_tried_again(client: Client) -> None:
    job = client.cancel(client.submit(RUN))
    assert (job.state, job.is_final) == (State.CANCELLED, True)
    assert client.cancel(job).state is State.CANCELLED
    again = client.retry(job)
    assert again.job_id != job.job_id
    assert client.retry(job).job_id == again.job_id
    assert client.wait(job, timeout_s=60).error is not None
    with pytest.raises(ApiError) as refused:
        client.retry(again)
    assert refused.value.code == "not_retriable"


def test_waiting_for_a_job_ends_with_the_time(client: Client) -> None:
    with pytest.raises(TimeoutError, match=r"is waiting after 0\.2 s"):
        client.wait(client.submit(RUN), timeout_s=0.2)


def test_a_cancelled_sweep_gives_a_result_for_each_job(client: Client) -> None:
    batch = client.sweep(RUN, grid={"distance": range(250)})
    assert list(batch.results_now()) == []
    client.cancel(next(client.jobs(batch=batch)))
    with pytest.raises(TimeoutError, match="249 jobs"):
        list(batch.results(timeout_s=0.5))
    assert len(list(batch.results_now())) == 1
    assert batch.cancel().is_final
    results = list(batch.results())
    assert [result.labels["distance"] for result in results] == [str(d) for d in range(250)]
    assert {result.state for result in results} == {State.CANCELLED}
    assert batch.csv().count("\n") == 251


def test_the_events_and_the_log_of_a_job_end_when_it_is_over(client: Client) -> None:
    job = client.cancel(client.submit(RUN))
    assert [event.type for event in client.events(job, follow=True)][-1] == "cancelled"
    assert list(client.logs(job, follow=True)) == []
    assert client.log_text(job) == ""


def test_a_stream_that_is_cut_is_taken_up_again(
    client: Client, proxied: tuple[Client, TcpProxy]
) -> None:
    follower, proxy = proxied
    ref = client.submit(RUN)
    types: list[str] = []

    def follow() -> None:
        types.extend(event.type for event in follower.events(ref, follow=True))

    thread = threading.Thread(target=follow)
    thread.start()
    wait_for(lambda: proxy.accepted == 1, 60, "the stream is open")
    proxy.cut()
    wait_for(lambda: proxy.accepted == 2, 60, "the stream is open again")
    proxy.cut()
    wait_for(lambda: proxy.accepted == 3, 60, "the stream is open a third time")
    client.cancel(ref)
    thread.join(120)
    assert types.count("cancelled") == 1


def test_the_gateways_restart_is_waited_for(system: System, start_process: ProcessStarter) -> None:
    with system.client("lab") as client:
        [gateway] = start_process.started
        gateway.kill_all()
        back = threading.Timer(1.5, system.gateway)
        back.start()
        ref = client.submit(RUN)
        back.join()
        assert [job.job_id for job in client.jobs()] == [ref.job_id]


def test_a_gateway_that_is_not_there_is_told_after_the_patience() -> None:
    with (
        Client(f"http://{LOOPBACK}:{pick_free_port()}", "t", "lab", patience_s=0.5) as client,
        pytest.raises(Unreachable, match="does not answer"),
    ):
        client.submit(RUN)


def test_something_else_than_a_gateway_is_told(management_url: str) -> None:
    address = management_url.rpartition("@")[2]
    with Client(f"http://{address}", "t", "lab", patience_s=0.5) as client:
        with pytest.raises((ApiError, Unreachable)) as refused:
            client.submit(RUN)
        assert str(refused.value)


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QSLICE_URL", "QSLICE_TOKEN", "QSLICE_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nonexistent")
    with pytest.raises(Unconfigured, match="QSLICE_URL"):
        Client()
    with pytest.raises(Unconfigured, match="https://"):
        Client("localhost:8000")
    with (
        Client("http://localhost:8000", "t") as client,
        pytest.raises(Unconfigured, match="project"),
    ):
        client.submit(RUN)
    assert "sesame" not in repr(Client("http://h", "sesame"))


def test_a_projects_broker_user_can_use_its_queues_and_no_others(
    system: System, client: Client
) -> None:
    user = client.broker_user()
    with Lab(user.amqp_url, "lab") as lab:
        assert lab.submit({**RUN, "id": "by-hand"}) == "by-hand"
    client.create_project("other")
    with Lab(user.amqp_url, "other") as lab, pytest.raises(BrokerError):
        lab.submit(RUN)
    renewed = client.broker_user()
    assert renewed.password != user.password
    with pytest.raises(BrokerError, match="refuses the login"):
        Lab(user.amqp_url, "lab")
