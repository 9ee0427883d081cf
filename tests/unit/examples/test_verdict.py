"""A sweep's results pass only where every point is there once and agrees with theory."""

import csv
from pathlib import Path
from typing import Any

import pytest
from bb84 import experiment
from broker import LabError
from closed_form import Parameters, key_rate
from plot import draw
from verdict import Point, check, write_csv

DISTANCES = ("0", "50", "100", "145")


def _result(distance: str, **changes: Any) -> dict[str, Any]:
    found = experiment(Parameters(distance_km=float(distance)), 10**12, 3)
    return {
        "job_id": f"job-{distance}",
        "state": "succeeded",
        "labels": {"distance": distance},
        "result": found | changes,
        "commit": "abc",
        "worker": "w",
        "duration_s": 0.5,
    }


def _points() -> list[Point]:
    return [Point.of("rest", _result(distance)) for distance in DISTANCES]


def test_points_as_theory_has_them_pass() -> None:
    check(_points(), DISTANCES)


def test_a_point_carries_what_was_measured_and_what_was_to_be_expected() -> None:
    point = Point.of("amqp", _result("50"))
    assert point.closed_form == key_rate(Parameters(distance_km=50))
    assert point.key_rate == pytest.approx(point.closed_form, rel=0.01)
    assert (point.distance_km, point.job_id, point.submitted_by) == (50, "job-50", "amqp")


@pytest.mark.parametrize("factor", [0.99, 1.01, float("nan")])
def test_a_rate_off_by_a_percent_is_a_disagreement_that_names_the_distance(factor: float) -> None:
    wrong = _result("50", key_rate=key_rate(Parameters(distance_km=50)) * factor)
    points = [*_points()[:1], Point.of("rest", wrong)]
    with pytest.raises(LabError, match=r"1 of 2 points disagree(.|\n)*50 km.*job-50"):
        check(points, ["0", "50"])


def test_key_where_there_can_be_none_is_a_disagreement() -> None:
    with pytest.raises(LabError, match="145 km"):
        check([Point.of("rest", _result("145", key_rate=1e-6))], ["145"])


def test_a_missing_point_and_a_point_told_twice_are_refused() -> None:
    points = _points()
    with pytest.raises(LabError, match=r"4 points were asked for and 3 came; missing: \[145"):
        check(points[:3], DISTANCES)
    with pytest.raises(LabError, match="4 points were asked for and 5 came"):
        check([*points, points[0]], DISTANCES)


def test_a_result_of_something_else_is_refused_with_its_job() -> None:
    with pytest.raises(LabError, match=r"job job-50 is none of the BB84 experiment.*KeyError"):
        Point.of("rest", _result("50") | {"result": {"answer": 42}})
    with pytest.raises(LabError, match=r"job-50.*TypeError"):
        Point.of("rest", _result("50") | {"result": None})
    other_link = Parameters(distance_km=50, misalignment=0.01).as_dict()
    with pytest.raises(LabError, match="other parameters than were asked for"):
        Point.of("rest", _result("50", parameters=other_link))


def test_the_table_has_a_line_per_point_by_distance(tmp_path: Path) -> None:
    write_csv(reversed(_points()), tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["distance_km"]) for row in rows] == [0, 50, 100, 145]
    assert [float(row["key_rate"]) for row in rows] == [point.key_rate for point in _points()]
    assert {row["submitted_by"] for row in rows} == {"rest"}


def test_the_plot_is_a_picture_also_where_some_rates_are_zero(tmp_path: Path) -> None:
    draw(_points(), tmp_path / "key-rate.png")
    assert (tmp_path / "key-rate.png").read_bytes().startswith(b"\x89PNG")
