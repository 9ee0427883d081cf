"""Length of a key that is proven secure for a run of finite length.

C. C. W. Lim, M. Curty, N. Walenta, F. Xu, H. Zbinden, "Concise security bounds for practical
decoy-state quantum key distribution", Phys. Rev. A 89, 022307 (2014), quoted below as [Lim14]:
the key is made of the X basis, all intensities; the Z basis bounds the phase errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from closed_form import BACKGROUND_ERROR, Parameters, binary_entropy
from simulation import Basis, Run

#: [Lim14]: the correctness error used in its examples.
CORRECTNESS_ERROR = 1e-15


@dataclass(frozen=True)
class FiniteKey:
    """The secret key of one run; lengths are in bits."""

    secrecy_error: float
    vacuum_events: float
    single_photon_events: float
    phase_error: float
    secret_bits: int


def finite_key(parameters: Parameters, run: Run, secrecy_error: float) -> FiniteKey:
    """Return the key that is `secrecy_error`-secret and 1e-15-correct ([Lim14] eq. 1)."""
    shares = (parameters.signal_fraction, parameters.decoy_fraction, parameters.vacuum_fraction)
    mu, nu = parameters.signal_intensity, parameters.decoy_intensity
    # Chance that a pulse of unknown intensity holds no photon, and one.
    tau_0 = math.fsum(p * math.exp(-k) for p, k in zip(shares, (mu, nu, 0.0), strict=True))
    tau_1 = math.fsum(p * math.exp(-k) * k for p, k in zip(shares, (mu, nu, 0.0), strict=True))
    term = math.log(21.0 / secrecy_error)

    def scaled(counts: Sequence[int], sign: float) -> list[float]:
        """Hoeffding bounds on the counts, as if all pulses had that intensity ([Lim14] n+-)."""
        margin = sign * math.sqrt(sum(counts) / 2.0 * term)
        return [
            math.exp(k) / p * (count + margin)
            for k, p, count in zip((mu, nu, 0.0), shares, counts, strict=True)
        ]

    def vacuum_events(sifted: Sequence[int]) -> float:
        """[Lim14] eq. 2, for a second decoy that is the vacuum."""
        return max(0.0, tau_0 * scaled(sifted, -1)[2])

    def single_photon_events(sifted: Sequence[int]) -> float:
        """[Lim14] eq. 3, for a second decoy that is the vacuum."""
        low, high = scaled(sifted, -1), scaled(sifted, +1)
        multi = (nu / mu) ** 2 * (high[0] - vacuum_events(sifted) / tau_0)
        return max(0.0, tau_1 * mu * (low[1] - high[2] - multi) / (mu * nu - nu * nu))

    in_x = [tally.x for tally in run.intensities]
    in_z = [tally.z for tally in run.intensities]
    s_x0 = vacuum_events(_sifted(in_x))
    s_x1 = single_photon_events(_sifted(in_x))
    s_z1 = single_photon_events(_sifted(in_z))
    errors = [basis.errors for basis in in_z]
    wrong = max(0.0, tau_1 * (scaled(errors, +1)[1] - scaled(errors, -1)[2]) / nu)
    phase_error = _phase_error(wrong, s_z1, s_x1, secrecy_error)

    total = sum(_sifted(in_x))
    qber = sum(basis.errors for basis in in_x) / total if total else BACKGROUND_ERROR
    revealed = parameters.error_correction_efficiency * total * binary_entropy(qber)
    overhead = 6.0 * math.log2(21.0 / secrecy_error) + math.log2(2.0 / CORRECTNESS_ERROR)
    length = s_x0 + s_x1 * (1.0 - binary_entropy(phase_error)) - revealed - overhead
    return FiniteKey(
        secrecy_error=secrecy_error,
        vacuum_events=s_x0,
        single_photon_events=s_x1,
        phase_error=phase_error,
        secret_bits=max(0, math.floor(length)),
    )


def _sifted(bases: Sequence[Basis]) -> list[int]:
    return [basis.sifted for basis in bases]


def _phase_error(wrong: float, s_z1: float, s_x1: float, secrecy_error: float) -> float:
    """Upper bound on the phase error rate in X from the bit error rate in Z ([Lim14] eq. 5)."""
    if s_z1 <= 0.0 or s_x1 <= 0.0 or wrong >= BACKGROUND_ERROR * s_z1:
        return BACKGROUND_ERROR
    # One error at least: with none at all the correction below would vanish.
    rate = max(wrong, 1.0) / s_z1
    spread = (s_z1 + s_x1) / (s_z1 * s_x1)
    confidence = math.log2(spread / (rate * (1.0 - rate)) * (21.0 / secrecy_error) ** 2)
    gamma = math.sqrt(spread * (1.0 - rate) * rate / math.log(2.0) * max(0.0, confidence))
    return min(BACKGROUND_ERROR, rate + gamma)
