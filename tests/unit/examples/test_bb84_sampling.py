"""The random counts of examples/bb84 have the distributions that they claim."""

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling import binomial, log_relative_probability, multinomial


def _probability(trials: int, probability: float, k: int) -> float:
    return math.exp(
        math.lgamma(trials + 1)
        - math.lgamma(k + 1)
        - math.lgamma(trials - k + 1)
        + k * math.log(probability)
        + (trials - k) * math.log1p(-probability)
    )


@pytest.mark.parametrize(
    ("trials", "probability"),
    [(7, 0.3), (40, 0.02), (25, 0.97), (60, 0.2), (200, 0.05), (50, 0.5), (100_000, 2e-4)],
    ids=[
        "gaps",
        "gaps, rare",
        "gaps, mirrored",
        "btrs",
        "btrs, skewed",
        "btrs, even",
        "btrs, rare",
    ],
)
def test_a_binomial_has_the_exact_distribution(trials: int, probability: float) -> None:
    draws = 300_000
    rng = Random(f"{trials}:{probability}")
    seen: dict[int, int] = {}
    for _ in range(draws):
        k = binomial(rng, trials, probability)
        seen[k] = seen.get(k, 0) + 1
    # Pearson's chi-square over the values that are expected often enough; the rest is one class.
    chi_square, classes, rest_seen, rest_expected = 0.0, 0, draws, float(draws)
    for k in range(min(trials, 200) + 1):
        expected = draws * _probability(trials, probability, k)
        if expected < 10:
            continue
        chi_square += (seen.get(k, 0) - expected) ** 2 / expected
        classes += 1
        rest_seen -= seen.get(k, 0)
        rest_expected -= expected
    if rest_expected >= 10:
        chi_square += (rest_seen - rest_expected) ** 2 / rest_expected
        classes += 1
    freedom = classes - 1
    assert freedom >= 3
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom)


@given(
    trials=st.integers(min_value=20, max_value=10**5),
    probability=st.floats(min_value=1e-3, max_value=0.5),
    fraction=st.floats(min_value=0, max_value=1),
)
def test_the_acceptance_ratio_is_that_of_the_binomial_probabilities(
    trials: int, probability: float, fraction: float
) -> None:
    k, mode = round(fraction * trials), math.floor((trials + 1) * probability)
    odds = probability / (1 - probability)
    expected = math.lgamma(mode + 1) + math.lgamma(trials - mode + 1)
    expected += (k - mode) * math.log(odds) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
    found = log_relative_probability(trials, odds, mode, k)
    assert found == pytest.approx(expected, rel=1e-7, abs=1e-6)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    trials=st.integers(min_value=1, max_value=10**14),
    mean=st.floats(min_value=1e-3, max_value=1e9),
    seed=st.integers(min_value=0, max_value=2**32),
)
def test_a_binomial_has_its_mean_and_variance_at_any_size(
    trials: int, mean: float, seed: int
) -> None:
    probability = min(1.0, mean / trials)
    mean, variance = trials * probability, trials * probability * (1 - probability)
    draws = 400
    rng = Random(seed)
    values = [binomial(rng, trials, probability) for _ in range(draws)]
    assert all(0 <= value <= trials for value in values)
    # The constant covers the skew of rare events; both bounds are about six deviations.
    assert abs(math.fsum(values) / draws - mean) <= 6 * math.sqrt(variance / draws) + 6 / draws
    if variance > 5:
        seen = math.fsum((value - mean) ** 2 for value in values) / draws
        assert abs(seen / variance - 1) <= 6 * math.sqrt((2 + 1 / variance) / draws)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    trials=st.integers(min_value=0, max_value=10**12),
    weights=st.lists(st.floats(min_value=1e-12, max_value=1e3), min_size=1, max_size=8),
    seed=st.integers(),
)
def test_a_multinomial_shares_out_every_trial_in_proportion(
    trials: int, weights: list[float], seed: int
) -> None:
    counts = multinomial(Random(seed), trials, weights)
    assert sum(counts) == trials
    for count, weight in zip(counts, weights, strict=True):
        share = weight / math.fsum(weights)
        assert abs(count - trials * share) <= 8 * math.sqrt(trials * share * (1 - share)) + 12


def test_certain_and_impossible_events_are_not_left_to_chance() -> None:
    rng = Random(1)
    assert binomial(rng, 10**15, 0.0) == 0
    assert binomial(rng, 10**15, 1.0) == 10**15
    assert binomial(rng, 0, 0.4) == 0
    assert multinomial(rng, 100, [0.0, 3.0, 0.0]) == [0, 100, 0]


@pytest.mark.parametrize(("trials", "probability"), [(-1, 0.5), (5, 1.5), (5, -0.1), (5, math.nan)])
def test_a_meaningless_binomial_is_refused(trials: int, probability: float) -> None:
    with pytest.raises(ValueError, match=r"trials is|probability is"):
        binomial(Random(1), trials, probability)


def test_meaningless_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        multinomial(Random(1), 5, [1.0, -1.0])
    with pytest.raises(ValueError, match="all be zero"):
        multinomial(Random(1), 5, [0.0, 0.0])
