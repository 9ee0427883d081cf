"""Decoy-state BB84 over fibre: `python /app/bb84.py --distance 10` writes one link's result.

The result is JSON: to `/output/result.json`, and as one line to standard output.
"""

from __future__ import annotations

import argparse
import json
import math
import secrets
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from random import Random
from typing import Any

from closed_form import (
    Parameters,
    binary_entropy,
    key_rate_standard_error,
    signed_key_rate,
    single_photon_bounds,
)
from finite_key import finite_key
from simulation import Run, Tally, simulate

RESULT_FILE = Path("/output/result.json")
DEFAULT_PULSES = 10**11
#: Above this, counts are no longer exact in double precision.
MOST_PULSES = 10**15


def experiment(
    parameters: Parameters, pulses: int, seed: int, secrecy_error: float | None = None
) -> dict[str, Any]:
    """Run one link and return its result; the same arguments give the same result."""
    # The distance is part of the seed: the points of a sweep are then independent of each other.
    rng = Random(f"{seed}:{float(parameters.distance_km)!r}")
    run = simulate(parameters, pulses, rng)
    seen = run.observables
    bounds = single_photon_bounds(parameters, seen)
    rate = max(0.0, signed_key_rate(parameters, seen))
    leaked = (
        run.signal.sifted * parameters.error_correction_efficiency * binary_entropy(run.signal.qber)
    )
    result: dict[str, Any] = {
        "experiment": "bb84-decoy",
        "distance_km": parameters.distance_km,
        "pulses": pulses,
        "seed": seed,
        "key_rate": rate,
        "key_rate_standard_error": key_rate_standard_error(parameters, pulses, seen),
        "secret_bits": math.floor(rate * pulses),
        "sifted_bits": run.signal.sifted,
        "leaked_bits": math.ceil(leaked),
        "qber": seen.signal_qber,
        "single_photon": {
            "yield_lower_bound": bounds.yield_lower,
            "error_upper_bound": bounds.error_upper,
            **_hidden_truth(run),
        },
        "intensities": {
            "signal": _counts(run.signal),
            "decoy": _counts(run.decoy),
            "vacuum": _counts(run.vacuum),
        },
        "parameters": parameters.as_dict(),
    }
    if secrecy_error is not None:
        key = finite_key(parameters, run, secrecy_error)
        result["finite_key"] = asdict(key) | {"key_rate": key.secret_bits / pulses}
    return result


def _counts(tally: Tally) -> dict[str, float]:
    return {
        "mean_photons": tally.mean_photons,
        "sent": tally.sent,
        "detected": tally.detected,
        "sifted": tally.sifted,
        "errors": tally.errors,
        "gain": tally.gain,
        "qber": tally.qber,
    }


def _hidden_truth(run: Run) -> dict[str, float | None]:
    """What only a simulation knows: how the single photons really fared."""
    signal = run.signal
    return {
        "sampled_yield": signal.single_photon_detected / signal.single_photon_sent
        if signal.single_photon_sent
        else None,
        "sampled_error": signal.single_photon_errors / signal.single_photon_sifted
        if signal.single_photon_sifted
        else None,
    }


def _pulse_count(text: str) -> int:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not (1 <= value <= MOST_PULSES and value == int(value)):
        raise argparse.ArgumentTypeError(
            f"{text} is not a whole number of pulses between 1 and {MOST_PULSES:.0e}"
        )
    return int(value)


def _secrecy(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0.0 < value < 1.0:
        raise argparse.ArgumentTypeError(f"{text} does not lie between 0 and 1")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bb84.py",
        usage="%(prog)s --distance KM [options]",
        description="Decoy-state BB84 over fibre: sampled secret key rate.",
    )
    parser.add_argument(
        "--pulses",
        type=_pulse_count,
        default=DEFAULT_PULSES,
        help=f"pulses sent, such as 1e10 (default {DEFAULT_PULSES:.0e})",
    )
    parser.add_argument("--seed", type=int, help="makes the run repeatable (default: random)")
    parser.add_argument(
        "--finite-key",
        type=_secrecy,
        metavar="EPSILON",
        help="also the key length that is EPSILON-secret for this finite run, such as 1e-10",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help=f"file for the result (default {RESULT_FILE}, where its folder exists)",
    )
    for setting in fields(Parameters):
        is_distance = setting.name == "distance_km"
        parser.add_argument(
            "--distance" if is_distance else "--" + setting.name.replace("_", "-"),
            dest=setting.name,
            metavar="KM" if is_distance else "VALUE",
            type=float,
            required=is_distance,
            default=setting.default,
            help=setting.metadata["meaning"]
            + ("" if is_distance else f" (default {setting.default:g})"),
        )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; bad arguments end with 2 and a message."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        parameters = Parameters(
            **{setting.name: getattr(given, setting.name) for setting in fields(Parameters)}
        )
    except ValueError as error:
        parser.error(str(error))
    seed = secrets.randbits(48) if given.seed is None else given.seed
    result = experiment(parameters, given.pulses, seed, given.finite_key)
    line = json.dumps(result, allow_nan=False)
    output = given.output or (RESULT_FILE if RESULT_FILE.parent.is_dir() else None)
    if output is not None:
        try:
            output.write_text(line + "\n", encoding="utf-8")
        except OSError as error:
            print(f"bb84.py: cannot write the result to {output}: {error}", file=sys.stderr)
            return 1
    print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
