"""kill -9 of the runner at each step of a job: another runner does it, once, and cleans up."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from qslice.sdk import Client
from qslice.sdk.models import JobRef
from qslice.states import State

from tests.acceptance.conftest import RunnerLab
from tests.support.counting import check_one_verdict
from tests.support.git import DOCKERFILE
from tests.support.processes import LOOPBACK
from tests.support.proxy import TcpProxy
from tests.support.system import System
from tests.support.wait import wait_for

#: Seconds: so short that a killed runner's job comes back soon.
LEASE_S = 3.0
#: The first attempt waits for somebody to make a file in its container; others end at once.
WAITS = """
import os, time
attempt = os.environ["QSLICE_ATTEMPT"]
while attempt == "1" and not os.path.exists("/tmp/go"):
    time.sleep(0.05)
print('{"attempt": %s}' % attempt)
"""
#: A step that ends once somebody makes a file in its container.
STEP = "RUN until test -e /go; do sleep 0.1; done  # {}\n"


@pytest.fixture
def lab(running_lab: RunnerLab) -> Iterator[RunnerLab]:
    """Its runners end with the test."""
    yield running_lab
    running_lab.stop_runners()


@pytest.fixture
def repository(lab: RunnerLab) -> str:
    return lab.repository(f"waits-{secrets.token_hex(4)}", {"Dockerfile": DOCKERFILE})


def submit(client: Client, repository: str) -> JobRef:
    return client.submit({"repository": repository, "command": ["python", "-c", WAITS]})


def wait_until_it_runs(client: Client, job: JobRef) -> None:
    def runs() -> bool:
        told = {event.type for event in client.events(job)}
        return client.job(job).state is State.RUNNING and "started" in told

    wait_for(runs, 120, "the container runs")


def the_container(lab: RunnerLab, job: JobRef) -> Any:
    [container] = lab.containers(**{"qslice.job": job.job_id})
    return container


def check_done_by_another(lab: RunnerLab, client: Client, job: JobRef) -> None:
    """The job succeeded, once, on its second attempt; nothing of the dead runner is left."""
    assert client.wait(job, 180).state is State.SUCCEEDED
    verdict = check_one_verdict(lab.broker_url, str(client.project), job.job_id)
    assert (verdict.state, verdict.result) == (State.SUCCEEDED, {"attempt": 2})
    wait_for(lambda: lab.containers() == [], what="no container left")
    # One for the runner that lives.
    locks = lab.state / "runners"
    wait_for(lambda: len(list(locks.glob("*.lock"))) == 1, what="the dead runner's lock removed")


def test_a_runner_that_is_killed_while_it_builds(lab: RunnerLab) -> None:
    token = secrets.token_hex(4)

    def steps() -> list[Any]:
        found = lab.docker.containers.list(all=True, ignore_removed=True)
        return [one for one in found if token in " ".join(one.attrs["Config"]["Cmd"] or ())]

    client = lab.project()
    building = lab.repository(
        f"builds-{token}", {"Dockerfile": DOCKERFILE.replace("USER", STEP.format(token) + "USER")}
    )
    first = lab.runner(QSLICE_LEASE_S=str(LEASE_S))
    job = submit(client, building)
    wait_for(steps, 120, "the build's step runs")
    wait_for(lambda: token in client.log_text(job), what="the build's log tells the step")
    first.kill()
    wait_for(lambda: not steps(), what="the engine ended the build that nobody waits for")
    lab.runner(QSLICE_LEASE_S=str(LEASE_S))
    [step] = wait_for(steps, 120, "the step runs again")
    assert step.exec_run(["touch", "/go"]).exit_code == 0
    check_done_by_another(lab, client, job)
    assert steps() == []


def test_a_runner_that_is_killed_while_the_container_runs(lab: RunnerLab, repository: str) -> None:
    client = lab.project()
    first = lab.runner(QSLICE_LEASE_S=str(LEASE_S))
    job = submit(client, repository)
    wait_until_it_runs(client, job)
    assert the_container(lab, job).status == "running"
    first.kill()
    lab.runner(QSLICE_LEASE_S=str(LEASE_S))
    check_done_by_another(lab, client, job)


def test_a_runner_that_is_killed_before_the_result_is_out(lab: RunnerLab, repository: str) -> None:
    client = lab.project()
    with proxy_to(lab.broker_url) as proxy:
        first = lab.runner(
            QSLICE_LEASE_S=str(LEASE_S), QSLICE_AMQP_URL=through(proxy, lab.broker_url)
        )
        job = submit(client, repository)
        wait_until_it_runs(client, job)
        proxy.refusing = True
        proxy.cut()
        assert the_container(lab, job).exec_run(["touch", "/tmp/go"]).exit_code == 0
        wait_for(lambda: lab.containers() == [], 60, "the container ended")
        first.kill()
    assert not client.job(job).is_final
    lab.runner(QSLICE_LEASE_S=str(LEASE_S))
    check_done_by_another(lab, client, job)


def test_a_worker_that_is_killed_between_its_claim_and_the_ack(system: System) -> None:
    system.gateway()
    system.ledger()
    system.make_project()
    client = system.client()
    broker_url = system.environment["QSLICE_AMQP_URL"]
    with proxy_to(broker_url) as proxy:
        first = system.noop_worker(lease_s=LEASE_S, QSLICE_AMQP_URL=through(proxy, broker_url))
        wait_for(lambda: system.todo() == (0, 1), 60, "the worker listens")
        proxy.mute_after(b'"reason":"granted"')
        job = client.submit({"repository": "https://git.example/a", "command": ["noop"]})
        wait_for(lambda: proxy.unheard, 60, "the worker has its claim and speaks unheard")
        assert client.job(job).state is State.RUNNING
        first.kill()
    system.noop_worker(lease_s=LEASE_S)
    assert client.wait(job, 120).state is State.SUCCEEDED
    verdict = check_one_verdict(broker_url, str(client.project), job.job_id)
    assert (verdict.state, verdict.attempt) == (State.SUCCEEDED, 2)
    # Neither the first delivery, which came again, nor the second waits any more.
    wait_for(lambda: system.todo() == (0, 1), 60, "the queue empty")


def test_a_job_that_is_cancelled_while_it_runs(lab: RunnerLab, repository: str) -> None:
    client = lab.project()
    lab.runner()
    job = submit(client, repository)
    wait_until_it_runs(client, job)
    client.cancel(job)
    wait_for(
        lambda: lab.containers(**{"qslice.job": job.job_id}) == [], what="the container killed"
    )
    assert client.wait(job, 60).state is State.CANCELLED
    verdict = check_one_verdict(lab.broker_url, str(client.project), job.job_id)
    assert (verdict.state, verdict.attempt) == (State.CANCELLED, 1)


def proxy_to(broker_url: str) -> TcpProxy:
    broker = urlsplit(broker_url)
    return TcpProxy(str(broker.hostname), int(broker.port or 5672))


def through(proxy: TcpProxy, broker_url: str) -> str:
    """The broker's URL with the proxy in its place."""
    login = urlsplit(broker_url).netloc.rpartition("@")[0]
    return urlsplit(broker_url)._replace(netloc=f"{login}@{LOOPBACK}:{proxy.port}").geturl()
