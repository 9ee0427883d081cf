"""Whether the results of a BB84 sweep are the ones that theory allows, and their table."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from broker import LabError, Result
from closed_form import Parameters, key_rate, key_rate_standard_error

#: Deviations of more than this many standard errors are a disagreement: 1 point in 150,000.
MOST_SIGMAS = 4.5


@dataclass(frozen=True)
class Point:
    """One distance: what the experiment found, and what an infinite run would have given."""

    submitted_by: str
    distance_km: float
    key_rate: float
    standard_error: float
    closed_form: float
    #: Difference from the closed form in expected standard errors.
    sigmas: float
    qber: float
    sifted_bits: int
    secret_bits: int
    job_id: str
    commit: str
    worker: str
    duration_s: float

    @classmethod
    def of(cls, submitted_by: str, result: Result) -> Point:
        """Read a succeeded job's result; LabError where it is none of this experiment."""
        try:
            found = result["result"]
            link = Parameters(distance_km=float(result["labels"]["distance"]))
            if found["parameters"] != link.as_dict():
                raise ValueError("it was run with other parameters than were asked for")
            expected = key_rate(link)
            error = key_rate_standard_error(link, found["pulses"])
            return cls(
                submitted_by=submitted_by,
                distance_km=link.distance_km,
                key_rate=found["key_rate"],
                standard_error=found["key_rate_standard_error"],
                closed_form=expected,
                sigmas=(found["key_rate"] - expected) / error,
                qber=found["qber"],
                sifted_bits=found["sifted_bits"],
                secret_bits=found["secret_bits"],
                job_id=result["job_id"],
                commit=result.get("commit") or "",
                worker=result.get("worker") or "",
                duration_s=result.get("duration_s") or 0.0,
            )
        except (KeyError, TypeError, ValueError) as wrong:
            raise LabError(
                f"the result of job {result.get('job_id')} is none of the BB84 experiment: "
                f"{type(wrong).__name__}: {wrong}"
            ) from wrong


def check(points: Sequence[Point], asked: Iterable[str]) -> None:
    """Raise LabError unless every distance asked for is there once and agrees with theory."""
    found = sorted(point.distance_km for point in points)
    wanted = sorted(float(distance) for distance in asked)
    if found != wanted:
        missing = [km for km in wanted if km not in found]
        raise LabError(
            f"{len(wanted)} points were asked for and {len(found)} came; missing: {missing}"
        )
    wrong = [point for point in points if not abs(point.sigmas) <= MOST_SIGMAS]
    if wrong:
        lines = [
            f"{point.distance_km:g} km: key rate {point.key_rate:.3e}, closed form "
            f"{point.closed_form:.3e}, {point.sigmas:+.1f} standard errors ({point.job_id})"
            for point in wrong[:10]
        ]
        raise LabError(
            f"{len(wrong)} of {len(points)} points disagree with the closed form:\n  "
            + "\n  ".join(lines)
        )


def write_csv(points: Iterable[Point], file: Path) -> None:
    """Write one line per point, by distance."""
    with file.open("w", newline="", encoding="utf-8") as output:
        table = csv.DictWriter(output, [column.name for column in fields(Point)])
        table.writeheader()
        for point in sorted(points, key=lambda point: point.distance_km):
            table.writerow(asdict(point))
