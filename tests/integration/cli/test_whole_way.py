"""Commands that wait for what becomes of a job, with a ledger and a worker."""

from __future__ import annotations

import pytest

from tests.integration.cli.conftest import Qslice
from tests.support.system import System

REPOSITORY = "https://git.example/qkd/bb84.git"


@pytest.fixture(autouse=True)
def _whole(system: System) -> None:
    system.ledger()
    system.noop_worker(slots=4)


def test_a_run_is_waited_for_and_its_output_shown(qslice: Qslice) -> None:
    done = qslice("submit", REPOSITORY, "--wait", "--", "print", "0.25 \x1b[2J")
    assert (done.code, done.out) == (0, "0.25 \N{REPLACEMENT CHARACTER}[2J\n")
    [job_id] = done.err.splitlines()
    assert qslice("show", job_id, "--json").json["state"] == "succeeded"
    logged = qslice("logs", job_id, "--follow")
    assert "0.25" in logged.out
    assert [line["stream"] for line in qslice("logs", job_id, "--json").json_lines].count(
        "stdout"
    ) == 1


def test_a_run_that_fails_gives_exit_code_1_and_its_reason(qslice: Qslice) -> None:
    done = qslice("submit", REPOSITORY, "-w", "--id", "t-1", "--", "fail")
    assert done.code == 1
    assert done.err.splitlines()[-1] == "qslice: the job is failed: the command ended with code 1"
    assert "it does not work" in done.err
    as_json = qslice("submit", REPOSITORY, "-w", "--json", "--id", "t-1", "--", "fail")
    assert (as_json.code, as_json.json["error"]["code"]) == (1, "exit_code")
    shown = qslice("show", "t-1").lines
    assert "error       exit_code (user): the command ended with code 1" in shown
    watched = qslice("watch", "t-1")
    assert (watched.code, watched.lines[-1]) == (1, "exit_code: the command ended with code 1")
    [again] = qslice("retry", "t-1").lines
    assert qslice("watch", again, "--json").json_lines[-1]["retry_of"] is not None


def test_a_sweep_is_watched_to_its_end_and_its_results_shown(qslice: Qslice) -> None:
    done = qslice("sweep", REPOSITORY, "-P", "n=0:4:1", "--watch", "--", "print", "{n}")
    assert done.code == 0
    batch_id, *lines = done.lines
    assert lines[-1] == "5/5  5 succeeded"
    table = qslice("results", batch_id).lines
    assert [line.split()[:2] for line in table[1:]] == [[str(n), "succeeded"] for n in range(5)]
    assert [row["stdout"] for row in qslice("results", batch_id, "--json").json_lines] == [
        f"{n}\n" for n in range(5)
    ]
    assert sorted(qslice("results", batch_id, "-f").lines) == [
        f"n={n}  succeeded  {n}" for n in range(5)
    ]
    assert len(qslice("results", batch_id, "--csv").lines) == 6
