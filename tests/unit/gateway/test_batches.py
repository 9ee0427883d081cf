"""A template and its grid: the jobs, and each job's point known again from its index alone."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qslice_gateway.batches import BatchRequest, Points, expand
from qslice_gateway.problems import Problem
from qslice_gateway.routing import read_json

TEMPLATE: dict[str, Any] = {
    "repository": "https://git.example/qkd/bb84.git",
    "command": ["python", "bb84.py", "--distance", "{distance}"],
}

values = st.lists(
    st.one_of(st.integers(-1000, 1000), st.text("abc-_", max_size=5), st.booleans()),
    min_size=1,
    max_size=4,
)
grids = st.dictionaries(
    st.from_regex("[a-z][a-z_]{0,5}[a-z]", fullmatch=True), values, min_size=1, max_size=4
)


def request(**fields: Any) -> BatchRequest:
    return read_json(BatchRequest, orjson.dumps(fields))


def refused(**fields: Any) -> Problem:
    with pytest.raises(Problem) as raised:
        list(expand(request(**fields), 1000)[1])
    return raised.value


def test_each_point_of_the_grid_becomes_a_job() -> None:
    total, jobs = expand(
        request(template=TEMPLATE, grid={"distance": [0, 10.5, "far"], "seed": [1, 2]}), 1000
    )
    found = list(jobs)
    assert total == len(found) == 6
    assert [job.payload["command"][-1] for job in found] == ["0", "0", "10.5", "10.5", "far", "far"]
    assert found[3].labels == {"distance": "10.5", "seed": "2"}


def test_the_points_of_a_list_are_taken_as_they_are() -> None:
    total, jobs = expand(request(template=TEMPLATE, list=[{"distance": 1}, {"distance": 5}]), 10)
    assert total == 2
    assert [job.payload["command"][-1] for job in jobs] == ["1", "5"]


@given(grids)
def test_a_jobs_point_is_known_again_from_its_index(grid: dict[str, list[Any]]) -> None:
    asked = request(template={**TEMPLATE, "command": ["true"]}, grid=grid)
    # Through the database and back: objects lose their order there.
    document = orjson.loads(orjson.dumps(asked.document(), option=orjson.OPT_SORT_KEYS))
    points = Points.of(document)
    total, jobs = expand(asked, 1000)
    assert points.names == list(grid)
    for index, job in enumerate(jobs):
        point = points.at(index)
        assert list(point) == list(grid)
        assert job.labels == {
            name: ("true" if value else "false") if isinstance(value, bool) else str(value)
            for name, value in point.items()
        }
    assert index == total - 1


def test_an_unknown_placeholder_is_named() -> None:
    problem = refused(template=TEMPLATE, grid={"length": [1]})
    assert problem.errors[0]["field"] == "template.command.3"
    assert "{distance}" in problem.detail


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"template": TEMPLATE}, "grid"),
        ({"template": TEMPLATE, "grid": {"distance": [1]}, "list": [{"distance": 1}]}, "grid"),
        ({"template": TEMPLATE, "grid": {}}, "grid"),
        ({"template": TEMPLATE, "grid": {"distance": []}}, "grid.distance"),
        ({"template": TEMPLATE, "grid": {"a b": [1]}}, "grid"),
        ({"template": TEMPLATE, "list": []}, "list"),
        ({"template": {"command": ["a"]}, "grid": {"d": [1]}}, "template.repository"),
        ({"template": {**TEMPLATE, "cpus": 1}, "grid": {"distance": [1]}}, "template.cpus"),
        ({"template": {**TEMPLATE, "request_id": "r"}, "grid": {"d": [1]}}, "template.request_id"),
        (
            {"template": {**TEMPLATE, "priority": 99}, "grid": {"distance": [1]}},
            "template.priority",
        ),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_batch_is_named(fields: dict[str, Any], field: str) -> None:
    assert field in [error["field"] for error in refused(**fields).errors]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"template": TEMPLATE, "grid": {"distance": 7}}, "grid.distance"),
        ({"template": TEMPLATE, "grid": {"distance": [[1]]}}, "grid.distance.0"),
        ({"template": TEMPLATE, "list": [7]}, "list.0"),
        ({"template": [], "grid": {"distance": [1]}}, "template"),
        ({"template": TEMPLATE, "grid": {"distance": [1]}, "nme": "x"}, "nme"),
    ],
    ids=str,
)
def test_a_body_of_the_wrong_form_is_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Problem) as raised:
        request(**fields)
    assert any(str(error["field"]).startswith(field) for error in raised.value.errors)


def test_a_point_that_breaks_a_sound_template_is_told() -> None:
    problem = refused(
        template={**TEMPLATE, "id": "{distance}"}, list=[{"distance": "a"}, {"distance": "b" * 300}]
    )
    assert "distance=bbb" in problem.detail


def test_a_grid_is_not_expanded_beyond_the_limit() -> None:
    with pytest.raises(Problem) as raised:
        expand(request(template=TEMPLATE, grid={"distance": [1] * 100, "seed": [1] * 100}), 1000)
    assert raised.value.code == "too_many_jobs"
    assert "10000" in raised.value.detail


def test_no_number_that_json_cannot_say_is_taken() -> None:
    with pytest.raises(Problem):
        read_json(
            BatchRequest,
            orjson.dumps({"template": TEMPLATE, "grid": {"distance": [0]}}).replace(
                b"[0]", b"[NaN]"
            ),
        )
