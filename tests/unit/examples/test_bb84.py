"""The BB84 experiment agrees with theory, and says clearly what it cannot run."""

import json
import math
from dataclasses import fields, replace
from pathlib import Path
from random import Random

import pytest
from bb84 import experiment, main
from closed_form import (
    Parameters,
    binary_entropy,
    cutoff_distance_km,
    expected_observables,
    gain,
    key_rate,
    key_rate_standard_error,
    qber,
    single_photon_bounds,
)
from finite_key import finite_key
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation import Basis, Run, Tally, simulate

LINK = Parameters()
PULSES = 10**11
CUTOFF_KM = cutoff_distance_km(LINK)


# --- the closed form -----------------------------------------------------------------------------


@given(st.floats(min_value=0, max_value=1))
def test_the_entropy_is_symmetric_and_between_zero_and_one(x: float) -> None:
    assert 0 <= binary_entropy(x) <= 1
    assert binary_entropy(x) == pytest.approx(binary_entropy(1 - x), abs=1e-12)


@given(st.floats(min_value=0, max_value=0.5), st.floats(min_value=0, max_value=0.5))
def test_the_entropy_grows_up_to_one_half_and_is_concave(x: float, y: float) -> None:
    low, high = sorted((x, y))
    assert binary_entropy(low) <= binary_entropy(high) + 1e-12
    middle = binary_entropy((x + y) / 2)
    assert middle >= (binary_entropy(x) + binary_entropy(y)) / 2 - 1e-12


def test_the_entropy_has_its_known_values() -> None:
    assert (binary_entropy(0), binary_entropy(0.5), binary_entropy(1)) == (0, 1, 0)
    assert binary_entropy(0.11) == pytest.approx(0.499916, abs=1e-6)
    with pytest.raises(ValueError, match="x is "):
        binary_entropy(-0.1)


def test_gain_and_error_rate_are_the_poisson_averages_over_photon_numbers() -> None:
    link = LINK.at(30)
    for mean in (0.0, 0.05, 0.48):
        clicks = errors = 0.0
        for photons in range(40):
            weight = math.exp(-mean) * mean**photons / math.factorial(photons)
            by_photon = 1 - (1 - link.transmittance) ** photons
            by_background = link.background_yield * (1 - by_photon)
            clicks += weight * (by_photon + by_background)
            errors += weight * (link.misalignment * by_photon + by_background / 2)
        assert gain(link, mean) == pytest.approx(clicks, rel=1e-9)
        assert qber(link, mean) == pytest.approx(errors / clicks, rel=1e-9)


def test_the_published_link_reaches_the_published_distances() -> None:
    # Ma et al. 2005: 142 km for infinitely many decoys, a little less for vacuum + weak decoy.
    assert cutoff_distance_km(replace(LINK, decoy_intensity=1e-4)) == pytest.approx(142.0, abs=0.1)
    assert cutoff_distance_km(LINK) == pytest.approx(140.6, abs=0.1)


def test_the_rate_falls_with_distance_and_is_zero_from_the_cutoff_on() -> None:
    rates = [key_rate(LINK.at(km)) for km in range(0, 200, 2)]
    positive = [rate for rate in rates if rate > 0]
    assert rates == sorted(rates, reverse=True)
    assert len(set(positive)) == len(positive) == math.ceil(CUTOFF_KM / 2)
    assert key_rate(LINK.at(CUTOFF_KM - 0.01)) > 0
    assert key_rate(LINK.at(CUTOFF_KM)) == 0


def test_a_link_without_any_key_has_its_cutoff_at_zero_and_one_without_noise_has_none() -> None:
    assert cutoff_distance_km(replace(LINK, misalignment=0.2)) == 0
    silent = replace(LINK, background_yield=0.0, attenuation_db_per_km=0.0)
    assert cutoff_distance_km(silent) == math.inf


@settings(derandomize=True)
@given(
    distance=st.floats(min_value=0, max_value=300),
    background=st.floats(min_value=0, max_value=1e-3),
    misalignment=st.floats(min_value=0, max_value=0.2),
    signal=st.floats(min_value=0.1, max_value=1.5),
    ratio=st.floats(min_value=0.01, max_value=0.9),
)
def test_the_decoy_bounds_never_promise_more_than_the_single_photons_have(
    distance: float, background: float, misalignment: float, signal: float, ratio: float
) -> None:
    link = Parameters(
        distance_km=distance,
        background_yield=background,
        misalignment=misalignment,
        signal_intensity=signal,
        decoy_intensity=signal * ratio,
    )
    eta = link.transmittance
    true_yield = eta + background * (1 - eta)
    bounds = single_photon_bounds(link, expected_observables(link))
    assert bounds.yield_lower <= true_yield * (1 + 1e-6) + 1e-12
    if true_yield > 1e-9 and bounds.yield_lower > 1e-9:
        true_error = (misalignment * eta + background * (1 - eta) / 2) / true_yield
        assert bounds.error_upper >= true_error * (1 - 1e-6)


# --- the simulation ------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", [0, 10, 25, 50, 75, 100, 120, 135])
def test_the_sampled_rate_agrees_with_the_closed_form(distance: float) -> None:
    link = LINK.at(distance)
    result = experiment(link, PULSES, seed=11)
    error = key_rate_standard_error(link, PULSES)
    assert abs(result["key_rate"] - key_rate(link)) < 4.5 * error
    # The check has teeth only where the error is small against the rate.
    assert error < 0.2 * key_rate(link)
    assert result["key_rate_standard_error"] == pytest.approx(error, rel=0.1)


def test_the_standard_error_is_the_spread_of_repeated_runs() -> None:
    link = LINK.at(60)
    rates = [experiment(link, 10**10, seed)["key_rate"] for seed in range(120)]
    mean = math.fsum(rates) / len(rates)
    spread = math.sqrt(math.fsum((rate - mean) ** 2 for rate in rates) / (len(rates) - 1))
    expected = key_rate_standard_error(link, 10**10)
    assert spread == pytest.approx(expected, rel=0.25)
    assert mean == pytest.approx(key_rate(link), abs=4 * expected / math.sqrt(len(rates)))


@pytest.mark.parametrize(
    "link",
    [
        LINK,
        LINK.at(40),
        LINK.at(110),
        # So bright, lossless and noisy that photon and background clicks often coincide.
        Parameters(0, 0, 0.7, 0.3, 0.1, signal_intensity=2.5, decoy_intensity=0.9),
    ],
    ids=["0 km", "40 km", "110 km", "noisy"],
)
def test_every_sampled_gain_and_error_rate_agrees_with_the_closed_form(link: Parameters) -> None:
    run = simulate(link, PULSES, Random(9))
    for tally in run.intensities:
        expected_gain = gain(link, tally.mean_photons)
        expected_qber = qber(link, tally.mean_photons)
        for seen, expected, trials in (
            (tally.detected, expected_gain, tally.sent),
            (tally.sifted, link.sifting, tally.detected),
            (tally.errors, expected_qber, tally.sifted),
        ):
            deviation = math.sqrt(trials * expected * (1 - expected))
            assert abs(seen - trials * expected) < 5 * deviation


def test_the_estimates_bound_what_the_single_photons_really_did() -> None:
    for distance in (0, 50, 100):
        single = experiment(LINK.at(distance), 10**13, seed=5)["single_photon"]
        assert single["yield_lower_bound"] < single["sampled_yield"]
        assert single["error_upper_bound"] > single["sampled_error"]


def test_there_is_no_key_well_beyond_the_cutoff() -> None:
    for distance in (CUTOFF_KM + 10, 200, 400):
        result = experiment(LINK.at(distance), PULSES, seed=2)
        assert result["key_rate"] == result["secret_bits"] == 0


def test_at_high_loss_only_noise_is_left() -> None:
    result = experiment(LINK.at(500), PULSES, seed=3)
    assert result["qber"] == pytest.approx(0.5, abs=0.01)
    assert result["intensities"]["signal"]["gain"] == pytest.approx(LINK.background_yield, rel=0.05)


def test_a_run_of_one_pulse_has_no_key_and_no_division_by_zero() -> None:
    result = experiment(LINK.at(100), 1, seed=1, secrecy_error=1e-10)
    assert result["key_rate"] == result["finite_key"]["secret_bits"] == 0
    json.dumps(result, allow_nan=False)


def test_biased_bases_sift_more_key() -> None:
    biased = replace(LINK.at(50), x_basis_probability=0.9)
    assert key_rate(biased) == pytest.approx(key_rate(LINK.at(50)) * 0.82 / 0.5)
    result = experiment(biased, PULSES, seed=4)
    assert abs(result["key_rate"] - key_rate(biased)) < 5 * key_rate_standard_error(biased, PULSES)


# --- finite key ----------------------------------------------------------------------------------


def _limit_of_the_finite_key(link: Parameters) -> float:
    """The rate of an infinite run whose key is the X-basis clicks of all intensities."""
    shares = (link.signal_fraction, link.decoy_fraction, link.vacuum_fraction)
    sources = list(zip(shares, (link.signal_intensity, link.decoy_intensity, 0.0), strict=True))
    bounds = single_photon_bounds(link, expected_observables(link))
    clicks = sum(share * gain(link, mean) for share, mean in sources)
    errors = sum(share * gain(link, mean) * qber(link, mean) for share, mean in sources)
    no_photon = sum(share * math.exp(-mean) for share, mean in sources)
    one_photon = sum(share * math.exp(-mean) * mean for share, mean in sources)
    return link.x_basis_probability**2 * (
        no_photon * link.background_yield
        + one_photon * bounds.yield_lower * (1 - binary_entropy(bounds.error_upper))
        - link.error_correction_efficiency * clicks * binary_entropy(errors / clicks)
    )


def test_a_finite_key_grows_with_the_run_towards_its_limit_and_never_beyond() -> None:
    link = replace(LINK.at(20), x_basis_probability=0.9)
    limit = _limit_of_the_finite_key(link)
    rates = []
    for pulses in (10**8, 10**11, 10**13, 10**15):
        key = finite_key(link, simulate(link, pulses, Random(6)), 1e-10)
        rates.append(key.secret_bits / pulses)
    assert rates == sorted(rates)
    assert rates[0] == 0 < rates[1]
    assert 0.98 * limit < rates[-1] < limit


def test_a_finite_key_has_the_length_that_the_paper_gives_for_these_counts() -> None:
    def tally(mean: float, x: tuple[int, int], z: tuple[int, int]) -> Tally:
        return Tally(mean, sent=0, x=Basis(*x), z=Basis(*z))

    run = Run(
        signal=tally(0.48, (200_000_000, 6_700_000), (190_000_000, 6_300_000)),
        decoy=tally(0.05, (6_000_000, 202_000), (5_800_000, 196_000)),
        vacuum=tally(0.0, (90_000, 45_000), (60_000, 30_000)),
    )
    key = finite_key(LINK, run, 1e-10)
    # Worked out apart, from the formulae for any two decoy intensities.
    assert key.vacuum_events == pytest.approx(276114.5137, rel=1e-9)
    assert key.single_photon_events == pytest.approx(120576376.7, rel=1e-9)
    assert key.phase_error == pytest.approx(0.03223632084, rel=1e-9)
    assert key.secret_bits == 42605899


def test_more_secrecy_costs_key() -> None:
    link = LINK.at(20)
    run = simulate(link, 10**11, Random(7))
    loose, strict = (finite_key(link, run, epsilon).secret_bits for epsilon in (1e-4, 1e-14))
    assert 0 < strict < loose


def test_a_finite_key_bounds_the_single_photons_that_were_really_counted() -> None:
    link = LINK.at(20)
    run = simulate(link, 10**11, Random(8))
    key = finite_key(link, run, 1e-10)
    # The key is made of the X basis, which is half of what was sifted.
    counted = sum(tally.single_photon_sifted for tally in run.intensities) / 2
    wrong = sum(tally.single_photon_errors for tally in run.intensities) / 2
    assert 0.8 * counted < key.single_photon_events < counted
    assert key.phase_error > wrong / counted


# --- the command line ----------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_result_and_another_seed_another() -> None:
    first, again, other = (experiment(LINK.at(10), PULSES, seed) for seed in (1, 1, 2))
    assert first == again
    assert first["intensities"] != other["intensities"]


def test_the_points_of_a_sweep_are_independent_under_one_seed() -> None:
    # With one random stream for all, nearby points would deviate from theory together.
    links = [LINK.at(distance) for distance in range(10, 60, 2)]
    signs = [experiment(link, PULSES, 1)["key_rate"] > key_rate(link) for link in links]
    assert 4 <= sum(signs) <= 21


def test_the_command_prints_one_json_line_and_writes_the_same_to_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "result.json"
    arguments = ["--distance", "10", "--pulses", "1e9", "--seed", "7", "--output", str(file)]
    assert main([*arguments, "--finite-key", "1e-10"]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1
    assert printed.err == ""
    result = json.loads(printed.out)
    assert json.loads(file.read_text(encoding="utf-8")) == result
    assert (result["distance_km"], result["pulses"], result["seed"]) == (10.0, 10**9, 7)
    assert Parameters(**result["parameters"]) == LINK.at(10)
    assert result["finite_key"]["secrecy_error"] == 1e-10


def test_every_parameter_can_be_given_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = Parameters(12.5, 0.2, 0.1, 1e-6, 0.02, 0.6, 0.1, 0.6, 0.3, 0.8, 1.1)
    arguments = ["--seed", "1", "--output", str(tmp_path / "result.json")]
    for setting in fields(Parameters):
        flag = "distance" if setting.name == "distance_km" else setting.name.replace("_", "-")
        arguments += [f"--{flag}", str(getattr(wanted, setting.name))]
    assert main(arguments) == 0
    assert Parameters(**json.loads(capsys.readouterr().out)["parameters"]) == wanted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--distance"),
        (["--distance", "far"], "argument --distance: invalid float value: 'far'"),
        (["--distance", "-1"], "distance_km is -1.0: it must lie in [0, 2000]"),
        (["--distance", "nan"], "distance_km is nan"),
        (["--distance", "1", "--pulses", "0"], "argument --pulses: 0 is not a whole number"),
        (["--distance", "1", "--pulses", "1e99"], "argument --pulses: 1e99 is not a whole number"),
        (["--distance", "1", "--pulses", "many"], "argument --pulses: 'many' is not a number"),
        (["--distance", "1", "--pulses", "inf"], "argument --pulses: inf is not a whole number"),
        (["--distance", "1", "--finite-key", "0"], "argument --finite-key: 0 does not lie"),
        (["--distance", "1", "--misalignment", "0.7"], "misalignment is 0.7"),
        (["--distance", "1", "--decoy-intensity", "0.5"], "below signal_intensity (0.48)"),
        (["--distance", "1", "--decoy-fraction", "0.3"], "must stay below 1"),
        (["--distance", "1", "--signal-fraction", "0"], "signal_fraction is 0"),
        (["--distance", "1", "--speed", "3"], "unrecognized arguments: --speed 3"),
    ],
)
def test_bad_arguments_end_with_exit_code_2_and_say_which(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


def test_a_result_file_that_cannot_be_written_fails_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "missing" / "result.json"
    assert main(["--distance", "1", "--output", str(file)]) == 1
    printed = capsys.readouterr()
    assert f"cannot write the result to {file}" in printed.err
    assert printed.out == ""
