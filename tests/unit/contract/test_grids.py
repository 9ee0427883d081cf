"""Sweeps: the points of a grid, and a template filled in at each of them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qslice import grids
from qslice.messages.base import Rejected
from qslice.messages.run import Run

TEMPLATE = {
    "repository": "https://git.example/qkd/bb84.git",
    "command": ["python", "bb84.py", "--distance", "{distance}", "--out={distance}km"],
    "env": {"SEED": "{seed}"},
    "labels": {"sweep": "s-{seed}"},
    "id": "t-{distance}-{seed}",
}


def test_a_grid_gives_every_combination_and_the_last_parameter_changes_fastest() -> None:
    found = list(grids.points({"distance": [0, 10], "seed": [1, 2]}))
    assert found == [
        {"distance": 0, "seed": 1},
        {"distance": 0, "seed": 2},
        {"distance": 10, "seed": 1},
        {"distance": 10, "seed": 2},
    ]


def test_a_template_is_filled_in_command_env_labels_and_id() -> None:
    filled = grids.fill(TEMPLATE, {"distance": 10, "seed": 7})
    assert filled["command"][3:] == ["10", "--out=10km"]
    assert filled["env"] == {"SEED": "7"}
    assert filled["id"] == "t-10-7"
    assert filled["labels"]["sweep"] == "s-7"
    Run.of(filled)


def test_the_parameters_become_labels_but_never_replace_the_templates_own() -> None:
    template = {**TEMPLATE, "labels": {"seed": "own"}}
    filled = grids.fill(template, {"distance": 10, "seed": 7})
    assert filled["labels"] == {"distance": "10", "seed": "own"}


def test_filling_leaves_the_template_as_it_was() -> None:
    before = repr(TEMPLATE)
    grids.fill(TEMPLATE, {"distance": 1, "seed": 2})
    assert repr(TEMPLATE) == before


def test_an_unknown_placeholder_is_named_with_its_place() -> None:
    template = {key: value for key, value in TEMPLATE.items() if key != "id"}
    with pytest.raises(Rejected) as refused:
        grids.fill(template, {"distance": 1})
    assert refused.value.field == "env.SEED"
    assert "{seed}" in refused.value.reason
    assert "distance" in refused.value.reason


def test_doubled_braces_stand_for_the_text_and_other_braces_are_left_alone() -> None:
    command = ["sh", "-c", 'echo {{name}} ${HOME} {} \'{"a": {"b": 1}}\'', "{name}"]
    filled = grids.fill({"command": command, "env": {}}, {"name": "x", "HOME": "h"})
    assert filled["command"] == ["sh", "-c", 'echo {name} $h {} \'{"a": {"b": 1}}\'', "x"]


def test_values_are_written_as_json_writes_them() -> None:
    point = {"a": True, "b": 1.5, "c": "x", "d": 0}
    filled = grids.fill({"command": ["{a}", "{b}", "{c}", "{d}"]}, point)
    assert filled["command"] == ["true", "1.5", "x", "0"]


@pytest.mark.parametrize(
    ("grid", "field"),
    [
        ({}, "grid"),
        ({"distance": []}, "grid.distance"),
        ({"distance": "abc"}, "grid.distance"),
        ({"distance": 5}, "grid.distance"),
        ({"no name": [1]}, "grid"),
        ({"a": list(range(1001)), "b": list(range(1000))}, "grid"),
    ],
)
def test_a_wrong_grid_is_refused_and_the_parameter_named(grid: dict[str, Any], field: str) -> None:
    with pytest.raises(Rejected) as refused:
        grids.points(grid)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("given_", "field"),
    [([], "list"), ([1], "list.0"), ([{"a": 1}, "x"], "list.1"), ([{"no name": 1}], "grid")],
)
def test_a_wrong_list_of_points_is_refused_and_its_place_named(
    given_: list[Any], field: str
) -> None:
    with pytest.raises(Rejected) as refused:
        grids.check_list(given_)
    assert refused.value.field == field


def test_the_placeholders_of_a_template_are_found_at_any_depth() -> None:
    assert grids.placeholders(TEMPLATE) == {"distance", "seed"}
    assert grids.placeholders({"command": ["{{not}}", "{a}"]}) == {"a"}


NAMES = st.text("abcdefgh_", min_size=1, max_size=6)


@given(st.dictionaries(NAMES, st.lists(st.integers(), min_size=1, max_size=4), min_size=1))
def test_a_grid_has_as_many_points_as_its_size_says_each_once(grid: dict[str, list[int]]) -> None:
    if grids.size(grid) > 5000:
        return
    found = [tuple(point.items()) for point in grids.points(grid)]
    assert len(found) == grids.size(grid)
    assert all(tuple(point) == tuple(grid) for point in map(dict, found))


@given(st.dictionaries(NAMES, st.integers(), min_size=1), st.text(alphabet="{}ab_ 1", max_size=30))
def test_filling_never_fails_but_for_an_unknown_placeholder(
    point: dict[str, int], text: str
) -> None:
    unknown = grids.placeholders(text) - point.keys()
    if unknown:
        with pytest.raises(Rejected):
            grids.fill({"command": [text]}, point)
    else:
        assert isinstance(grids.fill({"command": [text]}, point)["command"][0], str)
