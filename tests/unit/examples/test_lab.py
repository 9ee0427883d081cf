"""The lab scripts say what they want in messages that the platform understands."""

import argparse
import json

import n_queens
import pytest
from broker import LabError
from qslice import grids
from qslice.messages.run import read_run
from sweep import Sweep, check_all_succeeded, describe, read_distances, read_options

SWEEP = Sweep(
    name="s1",
    repository="https://git.example/bb84.git",
    distances=("0", "2.5"),
    pulses="1e9",
    seed=1,
    isolation="task",
    as_json=False,
    silence_s=1.0,
)


@pytest.mark.parametrize(
    ("text", "distances"),
    [
        ("0:150:50", ("0", "50", "100", "150")),
        ("0:1:0.25", ("0", "0.25", "0.5", "0.75", "1")),
        ("0:10:4", ("0", "4", "8")),
        ("5:5:1", ("5",)),
        ("0.1:0.3:0.1", ("0.1", "0.2", "0.3")),
        ("10,0,25.50,10.0", ("10", "0", "25.5")),
        ("100", ("100",)),
    ],
)
def test_distances_are_a_range_or_a_list(text: str, distances: tuple[str, ...]) -> None:
    assert read_distances(text) == distances


@pytest.mark.parametrize(
    "text", ["", "far", "0:10", "0:10:0", "10:0:1", "0:1e9:1", "-1,2", "nan", "1,inf", "0:10:x"]
)
def test_distances_that_make_no_sense_are_refused_with_their_text(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"^'"):
        read_distances(text)


def test_every_point_is_a_run_that_the_platform_reads() -> None:
    for task, distance in zip(SWEEP.tasks(), ("0", "2.5"), strict=True):
        run, course_form = read_run(json.dumps(task).encode())
        assert course_form is None
        assert run.id == f"s1/{distance}"
        assert run.command == [
            *("python", "/app/bb84.py", "--distance", distance),
            *("--pulses", "1e9", "--seed", "1"),
        ]
        assert run.labels == {"sweep": "s1", "distance": distance}
        assert not run.limits.network


def test_a_sweep_over_the_queue_and_one_over_rest_are_the_same_tasks() -> None:
    points = ({"distance": distance} for distance in SWEEP.distances)
    assert SWEEP.tasks() == [grids.fill(SWEEP.template(), point) for point in points]


def test_the_repository_comes_from_the_option_or_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QSLICE_GIT_DIR", "/srv/git")
    assert read_options("", []).repository == "file:///srv/git/bb84.git"
    monkeypatch.delenv("QSLICE_GIT_DIR")
    given = read_options("", ["--repository", "https://git.example/x.git"])
    assert given.repository == "https://git.example/x.git"
    assert len(given.distances) == 26
    with pytest.raises(LabError, match="QSLICE_GIT_DIR is not set"):
        read_options("", [])


def test_a_failed_point_is_described_with_its_reason() -> None:
    failed = {
        "state": "timed_out",
        "labels": {"distance": "10"},
        "error": {"message": "600 s were over"},
    }
    assert describe(failed) == "    10 km  timed_out: 600 s were over"
    with pytest.raises(LabError, match="1 of 1 points did not succeed"):
        check_all_succeeded([failed])


def test_the_queens_tasks_have_the_courses_form() -> None:
    found = n_queens.tasks(8, "q", "https://git.example/q.git")
    assert len(found) == 8
    for column, task in enumerate(found):
        assert set(task) == {"ID_projet", "ID_tache", "URL_git", "CMD"}
        run, course_form = read_run(json.dumps(task).encode())
        assert course_form is not None
        assert run.id == f"q/{column}"
        assert run.command == ["python", "/app/queens.py", "8", str(column)]


def test_the_queens_total_is_the_sum_and_a_failed_task_is_named() -> None:
    done = [{"state": "succeeded", "ID_tache": i, "Resultat": str(i)} for i in range(4)]
    assert n_queens.total(done) == 6
    lost = {"state": "failed", "ID_tache": 4, "error": {"message": "exit code 1"}}
    with pytest.raises(LabError, match="task 4 is failed: exit code 1"):
        n_queens.total([*done, lost])
