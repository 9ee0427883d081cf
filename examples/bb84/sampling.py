"""Binomial and multinomial random numbers, exact and fast for any count, without numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

# Below this mean, adding up geometric gaps is both exact and cheap; above it, BTRS is valid.
_SMALL_MEAN = 10.0


def binomial(rng: Random, trials: int, probability: float) -> int:
    """Return how many of `trials` independent trials succeed.

    Exact (no normal approximation) up to the rounding of double precision, in a time that does
    not grow with `trials`. Raises ValueError for a negative count or a probability outside [0, 1].
    """
    if trials < 0:
        raise ValueError(f"trials is {trials}: a count cannot be negative")
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"probability is {probability}: it must lie between 0 and 1")
    if probability > 0.5:
        return trials - binomial(rng, trials, 1.0 - probability)
    if trials == 0 or probability == 0.0:
        return 0
    if trials * probability < _SMALL_MEAN:
        return _by_gaps(rng, trials, probability)
    return _by_transformed_rejection(rng, trials, probability)


def multinomial(rng: Random, trials: int, weights: Sequence[float]) -> list[int]:
    """Share `trials` out over classes in proportion to `weights`: a chain of binomials."""
    # Summed from the end, so that a tiny last class keeps its relative precision.
    remaining_weight = [0.0]
    for weight in reversed(weights):
        if weight < 0:
            raise ValueError(f"weight {weight}: a weight cannot be negative")
        remaining_weight.append(remaining_weight[-1] + weight)
    remaining_weight.reverse()
    if not remaining_weight[0] > 0:
        raise ValueError("weights must not all be zero")
    counts = []
    left = trials
    for weight, total in zip(weights, remaining_weight, strict=False):
        count = binomial(rng, left, min(1.0, weight / total)) if total > 0 else 0
        counts.append(count)
        left -= count
    return counts


def _by_gaps(rng: Random, trials: int, probability: float) -> int:
    """Walk from success to success by geometric gaps (Devroye 1986, chapter X.4)."""
    log_failure = math.log1p(-probability)
    successes = 0
    position = 0.0
    while True:
        # 1 - random() lies in (0, 1], so the logarithm is finite.
        position += math.floor(math.log(1.0 - rng.random()) / log_failure) + 1.0
        if position > trials:
            return successes
        successes += 1


def _by_transformed_rejection(rng: Random, trials: int, probability: float) -> int:
    """Algorithm BTRS of W. Hörmann, J. Stat. Comput. Simul. 46, 101-110 (1993).

    Needs probability <= 1/2 and a mean of at least 10. The factorials enter through their Stirling
    corrections: the difference of plain log-factorials would lose all its digits at 10^12.
    """
    deviation = math.sqrt(trials * probability * (1.0 - probability))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * probability
    c = trials * probability + 0.5
    v_inside = 0.92 - 4.2 / b
    alpha = (2.83 + 5.1 / b) * deviation
    odds = probability / (1.0 - probability)
    mode = math.floor((trials + 1) * probability)
    while True:
        u = rng.random() - 0.5
        v = 1.0 - rng.random()
        us = 0.5 - abs(u)
        if us == 0.0:
            continue
        k = math.floor((2.0 * a / us + b) * u + c)
        if us >= 0.07 and v <= v_inside:
            return k
        if not 0 <= k <= trials:
            continue
        log_ratio = log_relative_probability(trials, odds, mode, k)
        if math.log(v * alpha / (a / (us * us) + b)) <= log_ratio:
            return k


def log_relative_probability(trials: int, odds: float, mode: int, k: int) -> float:
    """ln [P(k) / P(mode)] of a binomial with success odds p / (1 - p)."""
    return (
        (mode + 0.5) * math.log((mode + 1) / (odds * (trials - mode + 1)))
        + (trials + 1) * math.log1p((k - mode) / (trials - k + 1))
        + (k + 0.5) * math.log(odds * (trials - k + 1) / (k + 1))
        + _stirling_correction(mode)
        + _stirling_correction(trials - mode)
        - _stirling_correction(k)
        - _stirling_correction(trials - k)
    )


def _stirling_correction(k: int) -> float:
    """ln k! - [(k + 1/2) ln(k + 1) - (k + 1) + ln sqrt(2 pi)], as BTRS defines it."""
    if k < 10:
        return math.lgamma(k + 1) - (
            (k + 0.5) * math.log(k + 1) - (k + 1) + 0.5 * math.log(2.0 * math.pi)
        )
    square = float(k + 1) ** 2
    return (1.0 / 12 - (1.0 / 360 - 1.0 / 1260 / square) / square) / (k + 1)
