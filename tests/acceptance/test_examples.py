"""The demonstration with every part real: git, gateway, ledger, broker, runner and containers."""

from __future__ import annotations

import csv
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sweep_amqp
import sweep_rest
from closed_form import Parameters, key_rate
from docker import DockerClient
from publish import publish

from examples import demo
from tests.support.platform import Platform
from tests.support.processes import ProcessStarter
from tests.support.system import System

PROJECT = "qkd-lab"


@pytest.fixture
def lab(
    platform: Platform,
    broker_url: str,
    database_url: str,
    docker_client: DockerClient,
    start_process: ProcessStarter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[System]:
    """A running system with a project, and the environment of a person at that project's lab."""
    system = System(start_process, tmp_path, broker_url, database_url, platform.management_url)
    git_folder = tmp_path / "git"
    git_folder.mkdir()
    system.gateway()
    system.ledger()
    (checkout,) = platform.docker_label.values()
    runner = system.runner(
        git_folder, QSLICE_DOCKER_HOST=platform.docker_host, QSLICE_CHECKOUT=checkout
    )
    system.make_project(PROJECT)
    with system.client(PROJECT) as client:
        for name, value in {
            "QSLICE_URL": system.url,
            "QSLICE_TOKEN": system.tokens.make("alice", PROJECT),
            "QSLICE_PROJECT": PROJECT,
            "QSLICE_AMQP_URL": client.broker_user().amqp_url,
            "QSLICE_RABBITMQ_CONSOLE": "http://127.0.0.1:15672/",
            "QSLICE_GIT_DIR": str(git_folder),
        }.items():
            monkeypatch.setenv(name, value)
        yield system
        client.delete_project(PROJECT)
    system.close()
    runner.terminate()
    mine = f"qslice.worker-host={system.folder.name}"
    for image in docker_client.images.list(filters={"label": mine}):
        docker_client.images.remove(str(image.id), force=True)


def test_the_demonstration_goes_from_git_to_results_that_agree_with_theory(
    lab: System,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(demo, "OUTPUT", tmp_path / "out")
    status = demo.main()
    printed = capfd.readouterr().out
    assert status == 0, printed
    assert "all 26 points agree with the closed form" in printed
    assert f"the queue {PROJECT}.Done tells the same 26 results" in printed
    assert "all 25 points agree with the closed form" in printed
    assert "8 queens: 92 solutions" in printed
    with (tmp_path / "out" / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["distance_km"]) for row in rows] == [3.0 * step for step in range(51)]
    assert len({row["job_id"] for row in rows}) == 51
    # One repository, one commit, whoever submitted.
    assert len({row["commit"] for row in rows}) == 1
    assert (tmp_path / "out" / "key-rate.png").read_bytes().startswith(b"\x89PNG")
    after = printed.partition("From a shell:\n")[2].splitlines()
    assert after[0] == "  . .run/env"
    assert len(after) == 4
    for line in after[1:]:
        _qslice(line)


def _qslice(line: str) -> None:
    """Run a command line that the demonstration showed."""
    command = shlex.split(line)
    assert command[0] == ".venv/bin/qslice"
    program = Path(sys.executable).with_name("qslice")
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert done.stdout.strip()


def test_a_sweep_whose_experiment_is_broken_says_what_the_experiment_said(
    lab: System, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "Dockerfile").write_text("FROM python:3.11-slim\nUSER 65534\n")
    repository = tmp_path / "git" / "broken.git"
    publish(broken, repository)
    options = ["--distances", "10,20", "--repository", f"file://{repository}"]
    for script in (sweep_rest, sweep_amqp):
        assert script.main(options) == 1
        printed = capfd.readouterr().err
        assert "2 of 2 points did not succeed" in printed
        assert "10 km  failed" in printed


def test_a_sweep_handed_in_again_under_its_name_runs_nothing_twice(
    lab: System, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    publish(demo.EXAMPLES / "bb84", tmp_path / "git" / "bb84.git")
    options = ["--distances", "10,20", "--name", "again", "--json"]
    first, *others = [
        _results(script, options, capfd)
        for script in (sweep_rest.main, sweep_rest.main, sweep_amqp.main)
    ]
    assert first["10"]["result"]["key_rate"] == pytest.approx(
        key_rate(Parameters(distance_km=10)), rel=0.01
    )
    for later in others:
        assert {km: result["job_id"] for km, result in later.items()} == {
            km: result["job_id"] for km, result in first.items()
        }
        assert {km: result["attempt"] for km, result in later.items()} == {"10": 1, "20": 1}


def _results(
    script: Callable[[list[str]], int], options: list[str], capfd: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """Run a sweep script; its results by distance."""
    assert script(options) == 0
    lines = capfd.readouterr().out.splitlines()
    return {result["labels"]["distance"]: result for result in map(json.loads, lines)}
