"""A drill that could not fail would be of no use."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from qslice.states import State

from tests.drills.verdict import judge

GOOD = frozenset({State.SUCCEEDED})


@dataclass(frozen=True)
class End:
    id: str | None
    job_id: str = "job-1"
    state: State = State.SUCCEEDED
    attempt: int = 1


ONE = End("a")


def test_each_run_finished_once_and_told_on_done_even_twice_passes() -> None:
    verdict = judge({"a": GOOD, "b": GOOD}, [ONE, End("b", "job-2")], [ONE, ONE, End("b", "job-2")])
    assert verdict.passed
    assert (verdict.accepted, verdict.finished) == (2, 2)


@pytest.mark.parametrize(
    ("jobs", "results", "told"),
    [
        pytest.param([], [], "0 jobs", id="lost"),
        pytest.param([ONE, End("a", "job-2")], [ONE], "2 jobs", id="two jobs"),
        pytest.param([End("a", state=State.RUNNING)], [], "is not over", id="unfinished"),
        pytest.param(
            [End("a", state=State.FAILED)],
            [End("a", state=State.FAILED)],
            "ended as failed, not succeeded",
            id="another end",
        ),
        pytest.param([ONE], [], "on Done nothing", id="not told"),
        pytest.param([ONE], [ONE, End("a", attempt=2)], "attempt 2", id="two verdicts"),
        pytest.param([ONE, End("z", "job-9")], [ONE], "z: nobody handed", id="out of nowhere"),
    ],
)
def test_a_drill_fails(jobs: list[End], results: list[End], told: str) -> None:
    verdict = judge({"a": GOOD}, jobs, results)
    assert not verdict.passed
    assert [fault for fault in verdict.faults if told in fault], verdict.faults
