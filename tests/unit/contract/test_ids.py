import time
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qslice import ids


@given(st.uuids())
def test_every_uuid_comes_back_from_its_26_characters(value: UUID) -> None:
    suffix = ids.encode(value)
    assert len(suffix) == 26
    assert ids.decode(suffix) == value


def test_a_new_identifier_has_the_three_parts_of_a_slices_type_id() -> None:
    type_, authority, value = ids.parse(ids.new(ids.JOB, "lab.example"))
    assert (type_, authority, value.version) == ("job", "lab.example", 7)


def test_identifiers_sort_by_the_time_they_were_made() -> None:
    first = ids.new(ids.JOB)
    start = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == start:
        pass
    assert first < ids.new(ids.JOB)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "job",
        "job_localhost_",
        "job_localhost_00sqtwepw69hev0qxd08d2f3d",
        "job_localhost_80000000000000000000000000",
        "job_localhost_00sqtwepw69hev0qxd08d2f3dI",
        "Job_localhost_00sqtwepw69hev0qxd08d2f3dk",
        "job_local host_00sqtwepw69hev0qxd08d2f3dk",
        "job_localhost_00sqtwepw69hev0qxd08d2f3dk\n",
    ],
)
def test_what_is_no_identifier_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="is no identifier"):
        ids.parse(wrong)


def test_an_identifier_of_another_type_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="names a 'batch', not a 'job'"):
        ids.parse(ids.new(ids.BATCH), ids.JOB)


def test_a_published_slices_identifier_is_read() -> None:
    assert ids.parse("task_tld-city-bp1_00sqtwepw69hev0qxd08d2f3dk", ids.TASK)[1] == "tld-city-bp1"


def test_a_job_and_its_task_are_the_same_thing() -> None:
    job = ids.new(ids.JOB)
    task = ids.same_thing(job, ids.TASK)
    assert task.startswith("task_localhost_")
    assert ids.same_thing(task, ids.JOB) == job
