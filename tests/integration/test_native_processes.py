"""A process is known by more than its pid, so that a recycled pid is never killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from qslice_native.processes import Daemon, Identity, find_processes
from qslice_native.say import NativeError

from tests.support.wait import wait_for

ENV = {"PATH": os.environ["PATH"]}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    one = Daemon(
        title="Sleeper",
        mark=f"test/{tmp_path.name}-{os.getpid()}",
        pid_file=tmp_path / "sleeper.json",
        log=tmp_path / "logs" / "sleeper.log",
    )
    yield one
    one.stop(5)


def _python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_started_process_is_found_by_a_later_run(daemon: Daemon) -> None:
    daemon.start(["sleep", "1000"], ENV)
    later = replace(daemon)
    assert later.is_running()
    assert later.identity() == daemon.identity()
    assert later.stop() is True
    assert not daemon.is_running()
    assert later.stop() is False


@pytest.mark.parametrize(
    "changed",
    [lambda one: replace(one, start_ticks=1), lambda one: replace(one, boot_id="another")],
    ids=["another start time", "another boot"],
)
def test_a_recycled_pid_is_neither_ours_nor_killed(
    daemon: Daemon, changed: Callable[[Identity], Identity]
) -> None:
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        identity = Identity.of(stranger.pid)
        assert identity is not None
        changed(identity).save(daemon.pid_file)
        assert not daemon.is_running()
        assert daemon.stop() is False
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("content", ["", "{", '{"pid": "x"}', '{"pid": 1}'])
def test_a_damaged_pid_file_counts_as_not_running(daemon: Daemon, content: str) -> None:
    daemon.pid_file.write_text(content)
    assert not daemon.is_running()


def test_a_process_whose_pid_file_was_lost_is_ended_before_a_new_one_starts(
    daemon: Daemon,
) -> None:
    daemon.start(["sleep", "1000"], ENV)
    lost = daemon.identity()
    assert lost is not None
    daemon.pid_file.unlink()
    daemon.start(["sleep", "1000"], ENV)
    assert not lost.is_alive()
    assert find_processes(daemon.mark, None) == [daemon.identity()]


def test_children_that_outlive_a_killed_parent_are_ended_with_stop(daemon: Daemon) -> None:
    daemon.start(["sh", "-c", "sleep 1000 & wait"], ENV)
    wait_for(lambda: len(find_processes(daemon.mark, None)) == 2, what="the child")
    parent = daemon.identity()
    assert parent is not None
    os.kill(parent.pid, signal.SIGKILL)
    wait_for(lambda: not daemon.is_running(), what="end of the parent")
    assert len(find_processes(daemon.mark, None)) == 1
    assert daemon.stop() is True
    assert find_processes(daemon.mark, None) == []


def test_a_process_that_ignores_the_request_is_killed(daemon: Daemon) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True);"
    daemon.start(_python(f"{code} time.sleep(1000)"), ENV)
    wait_for(lambda: "deaf" in daemon.log.read_text(), what="the process deaf to SIGTERM")
    assert daemon.stop(timeout_s=0.2) is True
    assert not daemon.is_running()


def test_a_zombie_counts_as_ended() -> None:
    with subprocess.Popen(["true"]) as process:
        wait_for(lambda: Identity.of(process.pid) is None, what="the zombie")


def test_a_part_that_ends_while_starting_names_its_log_and_shows_its_end(daemon: Daemon) -> None:
    daemon.start(_python("raise SystemExit('port is taken')"), ENV)
    with pytest.raises(NativeError, match="Sleeper ended while it was starting") as caught:
        daemon.wait_until_ready(lambda: False, 60)
    assert str(daemon.log) in str(caught.value)
    assert "port is taken" in str(caught.value)


def test_a_part_that_never_answers_is_an_error_that_names_its_log(daemon: Daemon) -> None:
    daemon.start(["sleep", "1000"], ENV)
    with pytest.raises(NativeError, match="not ready after 0 s"):
        daemon.wait_until_ready(lambda: False, 0)
