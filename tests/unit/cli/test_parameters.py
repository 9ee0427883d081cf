"""From the words of a command line to a sweep's points."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qslice.cli import parameters


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("distance=0:200:50", [0, 50, 100, 150, 200]),
        ("distance=0:10:4", [0, 4, 8]),
        ("distance=10:0:-5", [10, 5, 0]),
        ("mu=0:0.3:0.1", [0, 0.1, 0.2, 0.3]),
        ("distance=5:5:1", [5]),
        ("distance=0,10,25.5", [0, 10, 25.5]),
        ("basis=X,Z", ["X", "Z"]),
        ("seed=7", [7]),
        ("serial=007,1e3,0x1,1.50", ["007", "1e3", "0x1", "1.50"]),
        ("start=12:30:00", "refused"),
        ("start=a:b:c", ["a:b:c"]),
        ("expression=a=b", ["a=b"]),
    ],
)
def test_a_parameter_is_a_range_or_a_list(text: str, values: list[Any] | str) -> None:
    if values == "refused":
        with pytest.raises(ValueError, match="step"):
            parameters.parameter(text)
    else:
        assert parameters.parameter(text)[1] == values


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("distance", "NAME="),
        ("=1", "NAME="),
        ("distance=", "distance: give at least one value"),
        ("distance=0:10:0", "distance: from 0 no step of 0 leads to 10"),
        ("distance=10:0:1", "distance: from 10"),
        ("distance=0:1:1e-9", "more than"),
    ],
)
def test_a_wrong_parameter_is_refused_by_its_name(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parameters.parameter(text)


@given(st.integers(-1000, 1000), st.integers(0, 200), st.integers(1, 50))
def test_a_range_of_integers_is_pythons_with_its_end(first: int, length: int, step: int) -> None:
    last = first + length
    found = parameters.parameter(f"d={first}:{last}:{step}")[1]
    assert found == list(range(first, last + 1, step))


def test_a_grid_names_each_parameter_once() -> None:
    assert parameters.grid(["a=1:2:1", "b=x"]) == {"a": [1, 2], "b": ["x"]}
    with pytest.raises(ValueError, match="a is given twice"):
        parameters.grid(["a=1", "a=2"])
    with pytest.raises(ValueError, match="more than"):
        parameters.grid(["a=1:10000:1", "b=1:10000:1"])


def test_points_are_read_from_csv_and_from_json() -> None:
    expected = [{"distance": 10, "basis": "X"}, {"distance": 25.5, "basis": "Z"}]
    assert parameters.points("p.csv", "distance,basis\n10,X\n25.5, Z\n") == expected
    text = '[{"distance": 10, "basis": "X"}, {"distance": 25.5, "basis": "Z"}]'
    assert parameters.points("p.json", text) == expected


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("p.json", "{", "p.json is no JSON"),
        ("p.json", "{}", "must hold a list"),
        ("p.json", "[]", "at least one point"),
        ("p.json", "[1]", r"p.json: list.0"),
        ("p.csv", "a b\n1\n", "no name of a parameter"),
    ],
)
def test_a_wrong_file_of_points_is_refused_by_its_name(name: str, text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parameters.points(name, text)


def test_a_pair_is_split_at_its_first_sign() -> None:
    assert parameters.key_value("A=b=c") == ("A", "b=c")
    with pytest.raises(ValueError, match="NAME=VALUE"):
        parameters.key_value("A")
