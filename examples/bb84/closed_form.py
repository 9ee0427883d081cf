"""Decoy-state BB84 in closed form: what a run of infinitely many pulses would give.

Model and bounds: X. Ma, B. Qi, Y. Zhao, H.-K. Lo, "Practical decoy state for quantum key
distribution", Phys. Rev. A 72, 012326 (2005), quoted below as [Ma05]. Default values of the link:
C. Gobby, Z. L. Yuan, A. J. Shields, "Quantum key distribution over 122 km of standard telecom
fiber", Appl. Phys. Lett. 84, 3762 (2004), as [Ma05] uses them.

Pure functions without side effects: the simulation and whoever checks it share them.
"""

from __future__ import annotations

import math
from dataclasses import asdict, astuple, dataclass, field, fields, replace

#: Error probability of a background click, which knows nothing of Alice's bit.
BACKGROUND_ERROR = 0.5
#: No fibre is longer; at this loss a double still tells the transmittance from zero.
LONGEST_KM = 2000.0


def _setting(default: float, low: float, high: float, meaning: str) -> float:
    described: float = field(
        default=default, metadata={"low": low, "high": high, "meaning": meaning}
    )
    return described


@dataclass(frozen=True)
class Parameters:
    """One link and the protocol run over it. A value out of range raises ValueError."""

    distance_km: float = _setting(0.0, 0.0, LONGEST_KM, "length of the fibre in km")
    attenuation_db_per_km: float = _setting(0.21, 0.0, 100.0, "loss of the fibre in dB/km")
    receiver_efficiency: float = _setting(
        0.045, 0.0, 1.0, "transmittance of Bob's optics times the efficiency of his detectors"
    )
    background_yield: float = _setting(
        1.7e-6, 0.0, 1.0, "Y0: click probability per pulse without a photon (dark counts)"
    )
    misalignment: float = _setting(
        0.033, 0.0, 0.5, "e_det: probability that a photon goes to the wrong detector"
    )
    signal_intensity: float = _setting(0.48, 0.0, 10.0, "mu: mean photons per signal pulse")
    decoy_intensity: float = _setting(0.05, 0.0, 10.0, "nu: mean photons per weak decoy pulse")
    signal_fraction: float = _setting(0.7, 0.0, 1.0, "share of the pulses sent as signal")
    decoy_fraction: float = _setting(
        0.2, 0.0, 1.0, "share of the pulses sent as weak decoy; the rest is vacuum"
    )
    x_basis_probability: float = _setting(
        0.5, 0.0, 1.0, "probability with which Alice and Bob, each alone, choose the X basis"
    )
    error_correction_efficiency: float = _setting(
        1.22, 1.0, 10.0, "f: bits that error correction reveals, over the Shannon limit"
    )

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            low, high = setting.metadata["low"], setting.metadata["high"]
            if not low <= value <= high:  # also refuses NaN
                raise ValueError(f"{setting.name} is {value}: it must lie in [{low:g}, {high:g}]")
        if not 0.0 < self.decoy_intensity < self.signal_intensity:
            raise ValueError(
                f"decoy_intensity is {self.decoy_intensity}: it must lie above 0 and below "
                f"signal_intensity ({self.signal_intensity})"
            )
        for name in ("signal_fraction", "decoy_fraction"):
            if getattr(self, name) == 0.0:
                raise ValueError(f"{name} is 0: each intensity must be sent")
        if self.vacuum_fraction <= 0.0:
            raise ValueError(
                "signal_fraction + decoy_fraction must stay below 1: the rest is vacuum"
            )

    @property
    def vacuum_fraction(self) -> float:
        """Share of the pulses in which nothing is sent."""
        # Rounded, so that 0.7 + 0.3 leaves exactly nothing.
        return round(1.0 - self.signal_fraction - self.decoy_fraction, 12)

    @property
    def transmittance(self) -> float:
        """eta: probability that a photon sent by Alice makes Bob's detector click."""
        loss_db = self.attenuation_db_per_km * self.distance_km
        return float(self.receiver_efficiency * 10.0 ** (-loss_db / 10.0))

    @property
    def sifting(self) -> float:
        """Probability that Alice and Bob chose the same basis."""
        x = self.x_basis_probability
        return x * x + (1.0 - x) * (1.0 - x)

    def at(self, distance_km: float) -> Parameters:
        """Return the same protocol over another length of fibre."""
        return replace(self, distance_km=distance_km)

    def as_dict(self) -> dict[str, float]:
        """Return the values by name, for a result file."""
        return asdict(self)


@dataclass(frozen=True)
class Observables:
    """What Alice and Bob can measure: gain = P(click) per pulse, QBER = P(error | sifted click)."""

    signal_gain: float
    signal_qber: float
    decoy_gain: float
    decoy_qber: float
    vacuum_gain: float


@dataclass(frozen=True)
class SinglePhotonBounds:
    """What the observables prove about pulses with exactly one photon."""

    yield_lower: float
    error_upper: float


def binary_entropy(x: float) -> float:
    """H2(x) in bits, for x in [0, 1]."""
    if not 0.0 <= x <= 1.0:
        raise ValueError(f"x is {x}: a probability lies between 0 and 1")
    if x in (0.0, 1.0):
        return 0.0
    return -(x * math.log2(x) + (1.0 - x) * math.log1p(-x) / math.log(2.0))


def gain(parameters: Parameters, intensity: float) -> float:
    """Q: probability that a pulse of `intensity` mean photons clicks.

    A background click counts where no photon clicked; [Ma05] eq. 10 leaves out that coincidence,
    a relative difference below Y0.
    """
    dark = math.exp(-parameters.transmittance * intensity)
    return -math.expm1(-parameters.transmittance * intensity) + parameters.background_yield * dark


def qber(parameters: Parameters, intensity: float) -> float:
    """E: probability that a click of such a pulse is wrong ([Ma05] eq. 11); 1/2 without clicks."""
    total = gain(parameters, intensity)
    if total == 0.0:
        return BACKGROUND_ERROR
    photons = -math.expm1(-parameters.transmittance * intensity)
    background = parameters.background_yield * math.exp(-parameters.transmittance * intensity)
    return (parameters.misalignment * photons + BACKGROUND_ERROR * background) / total


def expected_observables(parameters: Parameters) -> Observables:
    """Return the observables of an infinitely long run."""
    mu, nu = parameters.signal_intensity, parameters.decoy_intensity
    return Observables(
        signal_gain=gain(parameters, mu),
        signal_qber=qber(parameters, mu),
        decoy_gain=gain(parameters, nu),
        decoy_qber=qber(parameters, nu),
        vacuum_gain=gain(parameters, 0.0),
    )


def single_photon_bounds(parameters: Parameters, seen: Observables) -> SinglePhotonBounds:
    """Bound the single-photon yield and error by vacuum + weak decoy ([Ma05] eqs. 34 and 37)."""
    mu, nu = parameters.signal_intensity, parameters.decoy_intensity
    yield_lower = (mu / (mu * nu - nu * nu)) * (
        seen.decoy_gain * math.exp(nu)
        - seen.signal_gain * math.exp(mu) * (nu / mu) ** 2
        - (mu * mu - nu * nu) / (mu * mu) * seen.vacuum_gain
    )
    if yield_lower <= 0.0:
        return SinglePhotonBounds(yield_lower=0.0, error_upper=BACKGROUND_ERROR)
    errors = seen.decoy_qber * seen.decoy_gain * math.exp(nu)
    error_upper = (errors - BACKGROUND_ERROR * seen.vacuum_gain) / (yield_lower * nu)
    return SinglePhotonBounds(
        yield_lower=min(1.0, yield_lower),
        error_upper=min(BACKGROUND_ERROR, max(0.0, error_upper)),
    )


def signed_key_rate(parameters: Parameters, seen: Observables) -> float:
    """Secret bits per pulse sent, before the rate is cut at zero ([Ma05] eq. 1).

    q {Q1 [1 - H2(e1)] - Q_mu f H2(E_mu)} with q = share of signal pulses times sifting. Negative
    where error correction reveals more than the single photons hide.
    """
    bounds = single_photon_bounds(parameters, seen)
    mu = parameters.signal_intensity
    single_photon_gain = bounds.yield_lower * mu * math.exp(-mu)
    hidden = single_photon_gain * (1.0 - binary_entropy(bounds.error_upper))
    revealed = (
        seen.signal_gain * parameters.error_correction_efficiency * binary_entropy(seen.signal_qber)
    )
    return parameters.signal_fraction * parameters.sifting * (hidden - revealed)


def key_rate(parameters: Parameters) -> float:
    """Secret bits per pulse sent, for an infinitely long run."""
    return max(0.0, signed_key_rate(parameters, expected_observables(parameters)))


def cutoff_distance_km(parameters: Parameters) -> float:
    """Length of fibre from which on no key is left, to a metre; 0 if there is none at all."""
    low, high = 0.0, LONGEST_KM
    if key_rate(parameters.at(low)) == 0.0:
        return 0.0
    if key_rate(parameters.at(high)) > 0.0:
        return math.inf
    while high - low > 1e-3:
        middle = (low + high) / 2.0
        if key_rate(parameters.at(middle)) > 0.0:
            low = middle
        else:
            high = middle
    return high


def key_rate_standard_error(
    parameters: Parameters, pulses: float, seen: Observables | None = None
) -> float:
    """Standard deviation of the rate that a run of `pulses` pulses estimates.

    First-order propagation of the binomial variances of the five observables (`seen`, or the
    expected ones); the derivatives are central differences over half a standard deviation.
    """
    seen = seen or expected_observables(parameters)
    sent = (parameters.signal_fraction, parameters.decoy_fraction, parameters.vacuum_fraction)
    signals, decoys, vacua = (pulses * share for share in sent)
    trials = {
        "signal_gain": signals,
        "signal_qber": signals * seen.signal_gain * parameters.sifting,
        "decoy_gain": decoys,
        "decoy_qber": decoys * seen.decoy_gain * parameters.sifting,
        "vacuum_gain": vacua,
    }
    variance = 0.0
    for (name, count), value in zip(trials.items(), astuple(seen), strict=True):
        if count <= 0.0:
            continue
        step = 0.5 * math.sqrt(value * (1.0 - value) / count)
        low, high = max(0.0, value - step), min(1.0, value + step)
        if high == low:
            continue
        change = signed_key_rate(parameters, replace(seen, **{name: high})) - signed_key_rate(
            parameters, replace(seen, **{name: low})
        )
        variance += (2.0 * step * change / (high - low)) ** 2
    return math.sqrt(variance)
