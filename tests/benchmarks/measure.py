"""One line of the table: what qslice did, what its peer did in the same run, and the aim."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Line:
    measure: str
    ours: str
    peer: str
    #: As it is read: "2.8 times as many".
    ratio: str
    aim: str
    #: None where the figure is only reported.
    met: bool | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered)) - 1))]


def rate_line(measure: str, ours: float, peer: float, aim: float, unit: str = "/s") -> Line:
    """Two rates, of which ours should be at least `aim` times the peer's."""
    ratio = ours / peer
    return Line(
        measure,
        f"{ours:,.1f}{unit}",
        f"{peer:,.1f}{unit}",
        f"{ratio:.2f}",
        f"≥ {aim:g}",
        ratio >= aim,
    )


def time_line(measure: str, ours: float, peer: float, aim: float) -> Line:
    """Two durations in seconds, of which ours should be at most `aim` times the peer's."""
    ratio = ours / peer
    return Line(
        measure, f"{ours:.2f} s", f"{peer:.2f} s", f"{ratio:.2f}", f"≤ {aim:g}", ratio <= aim
    )


def below_line(measure: str, ours_ms: float, peer_ms: float, aim_ms: float) -> Line:
    """A delay in milliseconds that should stay below a fixed aim; the peer's stands beside it."""
    return Line(
        measure,
        f"{ours_ms:.1f} ms",
        f"{peer_ms:.1f} ms",
        f"{ours_ms / peer_ms:.2f}",
        f"< {aim_ms:g} ms",
        ours_ms < aim_ms,
    )


def interleaved(
    rounds: int, ours: Callable[[], float], peer: Callable[[], float]
) -> tuple[float, float]:
    """The medians of both over rounds taken in turn, so that a slow minute hits both."""
    mine, theirs = [], []
    for _ in range(rounds):
        mine.append(ours())
        theirs.append(peer())
    return statistics.median(mine), statistics.median(theirs)
