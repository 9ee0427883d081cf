"""The lab's way in, on a real broker: sent once, read once, through cuts and restarts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import orjson
import pika
import pytest
from qslice import names
from qslice.sdk import BrokerError, Lab, Rejected

from tests.integration.sdk.conftest import Project
from tests.support.proxy import TcpProxy
from tests.support.wait import wait_for

RUN = {"repository": "https://git.example/qkd/bb84.git", "command": ["python", "/app/bb84.py"]}
SWEEP = {**RUN, "command": ["python", "/app/bb84.py", "--distance", "{distance}"]}


@pytest.fixture
def lab(project: Project) -> Iterator[Lab]:
    with Lab(project.lab_url, project.name) as lab:
        yield lab


def through(proxy: TcpProxy, url: str) -> str:
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{user}@{proxy.host}:{proxy.port}"))


@pytest.fixture
def proxy(project: Project) -> Iterator[TcpProxy]:
    parts = urlsplit(project.lab_url)
    assert parts.hostname is not None
    assert parts.port is not None
    with TcpProxy(parts.hostname, parts.port) as proxy:
        yield proxy


def test_a_run_is_on_the_queue_when_submit_returns(lab: Lab, project: Project) -> None:
    id_ = lab.submit({**RUN, "id": "t-10km", "priority": 3})
    assert id_ == "t-10km"
    taken = project.take()
    assert taken is not None
    properties, body = taken
    assert orjson.loads(body) == {**RUN, "id": "t-10km", "priority": 3}
    assert properties.delivery_mode == 2
    assert properties.content_type == "application/json"
    assert properties.message_id == "t-10km"


def test_a_run_without_an_id_gets_one(lab: Lab, project: Project) -> None:
    first, second = lab.submit(RUN), lab.submit(RUN)
    assert first != second
    assert [run["id"] for run in project.todo()] == [first, second]


def test_a_task_in_the_courses_form_is_sent_as_it_is(lab: Lab, project: Project) -> None:
    task = {"ID_projet": 1, "ID_tache": 4, "URL_git": "https://git.example/q.git", "CMD": "run 4"}
    assert lab.submit(task) == "1/4"
    assert project.todo() == [task]


def test_what_a_worker_would_refuse_is_refused_before_it_is_sent(
    lab: Lab, project: Project
) -> None:
    with pytest.raises(Rejected) as refused:
        lab.submit_many([RUN, {**RUN, "walltime": 5}])
    assert refused.value.field == "walltime"
    assert project.todo() == []


def test_a_sweep_puts_a_run_per_point_on_the_queue(lab: Lab, project: Project) -> None:
    sweep = lab.sweep(SWEEP, grid={"distance": range(0, 600, 2)}, name="s1")
    assert len(sweep) == 300
    runs = project.todo()
    assert [run["id"] for run in runs] == list(sweep) == [f"s1/{index}" for index in range(300)]
    assert runs[7]["command"][-1] == "14"
    assert runs[7]["labels"] == {"distance": "14"}


def test_a_project_that_does_not_exist_is_told(project: Project) -> None:
    with Lab(project.lab_url, "other") as lab, pytest.raises(BrokerError, match="refuses"):
        lab.submit(RUN)


def test_a_queue_that_does_not_exist_is_told(project: Project, lab: Lab) -> None:
    project.channel.queue_delete(names.todo(project.name))
    with pytest.raises(BrokerError, match=r"bb84\.ToDo.*does the project exist"):
        lab.submit(RUN)


def test_the_lab_goes_on_after_a_refusal(project: Project, lab: Lab) -> None:
    lab.project = "other"
    with pytest.raises(BrokerError):
        lab.submit(RUN)
    lab.project = project.name
    lab.submit({**RUN, "id": "after"})
    assert [run["id"] for run in project.todo()] == ["after"]


def test_a_wrong_password_is_told_at_once_and_not_shown(project: Project) -> None:
    parts = urlsplit(project.lab_url)
    wrong = urlunsplit(
        parts._replace(netloc=f"{parts.username}:sesame@{parts.hostname}:{parts.port}")
    )
    with pytest.raises(BrokerError, match="refuses the login") as refused:
        Lab(wrong, project.name)
    assert "sesame" not in str(refused.value)


def test_a_wrong_virtual_host_is_told_at_once(project: Project) -> None:
    wrong = urlunsplit(urlsplit(project.lab_url)._replace(path="/nowhere"))
    with pytest.raises(BrokerError, match="virtual host wrong"):
        Lab(wrong, project.name)


def test_a_broker_that_is_not_there_is_told(proxy: TcpProxy, project: Project) -> None:
    proxy.refusing = True
    with pytest.raises(BrokerError, match="no broker answers"):
        Lab(through(proxy, project.lab_url), project.name, timeout_s=2)


def test_results_come_as_they_are_posted_and_leave_done(lab: Lab, project: Project) -> None:
    expected = [project.post(f"t-{number}", stdout=str(number)) for number in range(5)]
    assert list(lab.results(5)) == expected
    assert wait_for_ready(project) == 0


def test_a_duplicate_result_is_dropped(lab: Lab, project: Project) -> None:
    first = project.post("a")
    project.post("a", job_id=first.job_id)
    second = project.post("b")
    assert list(lab.results(2)) == [first, second]


def test_results_of_other_jobs_are_left_for_others(lab: Lab, project: Project) -> None:
    others = [project.post(f"other-{number}") for number in range(450)]
    mine = project.post("mine")
    assert list(lab.results(["mine"], timeout_s=60)) == [mine]
    wait_for(lambda: project.waiting(names.done(project.name)) == 450, 60, "results given back")
    found = list(lab.results(450, timeout_s=60))
    assert {result.job_id for result in found} == {result.job_id for result in others}


def test_two_scripts_of_one_project_both_get_what_is_theirs(lab: Lab, project: Project) -> None:
    found: list[str | None] = []

    def other() -> None:
        with Lab(project.lab_url, project.name) as second:
            ids = [f"b-{number}" for number in range(20)]
            found.extend(result.id for result in second.results(ids, timeout_s=120))

    thread = threading.Thread(target=other)
    thread.start()
    for number in range(20):
        project.post(f"a-{number}")
        project.post(f"b-{number}")
    mine = [r.id for r in lab.results([f"a-{number}" for number in range(20)], timeout_s=120)]
    thread.join(120)
    assert sorted(map(str, mine)) == sorted(f"a-{number}" for number in range(20))
    assert sorted(map(str, found)) == sorted(f"b-{number}" for number in range(20))


def test_a_result_whose_loop_body_died_comes_again(lab: Lab, project: Project) -> None:
    results = [project.post(f"t-{number}") for number in range(3)]

    def script() -> None:
        for result in lab.results(3):
            if result.id == "t-1":
                raise RuntimeError("the script's own mistake")

    with pytest.raises(RuntimeError):
        script()
    assert list(lab.results(2, timeout_s=60)) == results[1:]


def test_a_script_that_is_started_anew_goes_on_where_it_was(
    project: Project, tmp_path: Path
) -> None:
    ids = [f"t-{number}" for number in range(6)]
    posted = [project.post(id_) for id_ in ids]
    seen = []
    with Lab(project.lab_url, project.name) as lab:
        for result in lab.results(ids, resume_file=tmp_path / "seen"):
            seen.append(result)
            if len(seen) == 4:
                break  # As if it died here: the fourth was not done with.
    project.post(ids[0], job_id=posted[0].job_id)  # Done is at least once.
    with Lab(project.lab_url, project.name) as lab:
        rest = list(lab.results(ids, resume_file=tmp_path / "seen", timeout_s=60))
        assert rest == posted[3:]
        assert list(lab.results(ids, resume_file=tmp_path / "seen", timeout_s=60)) == []


def test_a_resume_file_that_keeps_results_gives_all_of_them_again(
    project: Project, lab: Lab, tmp_path: Path
) -> None:
    posted = [project.post("a", result={"key_rate": 0.25}), project.post("b")]
    first = lab.results(2, resume_file=tmp_path / "all", keep_results=True)
    assert list(first) == posted
    posted.append(project.post("c"))
    again = lab.results(3, resume_file=tmp_path / "all", keep_results=True, timeout_s=60)
    assert list(again) == posted


def test_missing_results_are_counted_when_the_time_is_up(lab: Lab, project: Project) -> None:
    project.post("a")
    with pytest.raises(TimeoutError, match="1 results are missing"):
        list(lab.results(["a", "b"], timeout_s=1))
    project.post("c")
    assert [result.id for result in lab.results(timeout_s=1)] == ["c"]


def test_dead_letters_tell_why_and_give_the_message(lab: Lab, project: Project) -> None:
    headers = {names.HEADER_REASON: "unknown field", names.HEADER_FIELD: "walltime"}
    project.channel.basic_publish(
        names.EXCHANGE_DEAD,
        names.dead(project.name),
        b'{"walltime": 5}',
        pika.BasicProperties(headers={**headers, names.HEADER_OWNER: "user"}),
    )
    [(why, message)] = lab.dead_letters(timeout_s=2)
    assert (why.field, why.reason, why.owner) == ("walltime", "unknown field", "user")
    assert message == b'{"walltime": 5}'
    assert list(lab.dead_letters()) == []


def test_a_cut_in_the_middle_of_a_sweep_loses_no_run(project: Project, proxy: TcpProxy) -> None:
    with Lab(through(proxy, project.lab_url), project.name) as lab:
        stop = threading.Event()

        def cuts() -> None:
            while not stop.wait(0.3):
                proxy.cut()

        thread = threading.Thread(target=cuts)
        thread.start()
        sweep: list[str] = []
        try:
            for part in range(6):
                sweep += lab.sweep(SWEEP, grid={"distance": range(400)}, name=f"s{part}")
        finally:
            stop.set()
            thread.join()
        assert proxy.accepted > 1
    assert {run["id"] for run in project.todo()} == set(sweep)
    assert len(sweep) == 2400


def test_a_cut_while_results_are_read_neither_loses_nor_repeats_one(
    project: Project, proxy: TcpProxy
) -> None:
    ids = [f"t-{number}" for number in range(300)]
    for id_ in ids:
        project.post(id_)
    found = []
    with Lab(through(proxy, project.lab_url), project.name) as lab:
        for result in lab.results(ids, timeout_s=120):
            found.append(result.id)
            if len(found) in (50, 150):
                proxy.cut()
    assert sorted(map(str, found)) == sorted(ids)
    assert proxy.accepted >= 2


def test_a_submit_waits_for_a_broker_that_is_away(project: Project, proxy: TcpProxy) -> None:
    with Lab(through(proxy, project.lab_url), project.name) as lab:
        proxy.refusing = True
        proxy.cut()
        back = threading.Timer(1.0, lambda: setattr(proxy, "refusing", False))
        back.start()
        assert lab.submit({**RUN, "id": "patient"}) == "patient"
        back.join()
    assert [run["id"] for run in project.todo()] == ["patient"]


def test_a_submit_gives_up_after_its_time_and_says_what_to_do(
    project: Project, proxy: TcpProxy
) -> None:
    with Lab(through(proxy, project.lab_url), project.name, timeout_s=2) as lab:
        proxy.refusing = True
        proxy.cut()
        with pytest.raises(BrokerError, match="submit the same runs again"):
            lab.submit(RUN)


def test_the_connection_lives_while_the_script_computes(project: Project, proxy: TcpProxy) -> None:
    with Lab(through(proxy, project.lab_url), project.name, heartbeat_s=1) as lab:
        ends = time.monotonic() + 5  # Twice the silence after which the broker hangs up.
        while time.monotonic() < ends:
            sum(range(10_000))
        assert proxy.accepted == 1
        lab.submit(RUN)
    assert proxy.accepted == 1


def wait_for_ready(project: Project) -> int:
    """Messages on Done once the last acknowledgement has arrived."""
    queue = names.done(project.name)
    wait_for(lambda: project.waiting(queue) == 0, 60, "Done empty")
    return project.waiting(queue)
