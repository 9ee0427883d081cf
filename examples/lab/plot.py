"""The picture of a BB84 sweep: secret key rate against fibre length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from closed_form import Parameters, key_rate
from matplotlib.figure import Figure
from verdict import Point

_LABELS = {"rest": "submitted by REST", "amqp": "submitted by a lab script over RabbitMQ"}


def draw(points: Sequence[Point], file: Path) -> None:
    """Draw sampled rates with one standard error over the closed form; a rate of 0 has no mark."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    longest = max(point.distance_km for point in points)
    lengths = [longest * step / 1000 for step in range(1001)]
    rates = [key_rate(Parameters(distance_km=km)) for km in lengths]
    curve = [(km, rate) for km, rate in zip(lengths, rates, strict=True) if rate > 0]
    axes.plot(*zip(*curve, strict=True), color="0.6", label="closed form, infinite run")
    for index, way in enumerate(dict.fromkeys(point.submitted_by for point in points)):
        seen = [point for point in points if point.submitted_by == way and point.key_rate > 0]
        axes.errorbar(
            [point.distance_km for point in seen],
            [point.key_rate for point in seen],
            yerr=[point.standard_error for point in seen],
            fmt="os"[index % 2],
            markersize=4,
            capsize=2,
            label=_LABELS.get(way, way),
        )
    axes.set_yscale("log")
    axes.set_xlabel("fibre length in km")
    axes.set_ylabel("secret key in bits per pulse")
    axes.set_title("Decoy-state BB84: sampled secret key rate")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=120)
