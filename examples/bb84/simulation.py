"""One run of decoy-state BB84, photon number by photon number, as counts.

Nothing here uses the formulae of `closed_form` for gains, error rates or bounds of whole
intensities: the counts come from single pulses' probabilities alone, so agreement means something.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random

from closed_form import BACKGROUND_ERROR, Observables, Parameters
from sampling import binomial, multinomial


@dataclass
class Basis:
    """Clicks for which Alice and Bob used this same basis, and how many of them disagree."""

    sifted: int = 0
    errors: int = 0


@dataclass
class Tally:
    """Counts for the pulses of one intensity."""

    mean_photons: float
    sent: int
    detected: int = 0
    x: Basis = field(default_factory=Basis)
    z: Basis = field(default_factory=Basis)
    #: What Alice and Bob cannot see: pulses with exactly one photon and their clicks and errors.
    single_photon_sent: int = 0
    single_photon_detected: int = 0
    single_photon_sifted: int = 0
    single_photon_errors: int = 0

    @property
    def sifted(self) -> int:
        """Clicks kept after the bases were compared."""
        return self.x.sifted + self.z.sifted

    @property
    def errors(self) -> int:
        """Sifted clicks whose bits disagree."""
        return self.x.errors + self.z.errors

    @property
    def gain(self) -> float:
        """Clicks per pulse sent; 0 if none was sent."""
        return self.detected / self.sent if self.sent else 0.0

    @property
    def qber(self) -> float:
        """Errors per sifted click; 1/2, which promises nothing, if there is none."""
        return self.errors / self.sifted if self.sifted else BACKGROUND_ERROR


@dataclass(frozen=True)
class Run:
    """The counts of a whole run, intensity by intensity."""

    signal: Tally
    decoy: Tally
    vacuum: Tally

    @property
    def observables(self) -> Observables:
        """What Alice and Bob read off their counts."""
        return Observables(
            signal_gain=self.signal.gain,
            signal_qber=self.signal.qber,
            decoy_gain=self.decoy.gain,
            decoy_qber=self.decoy.qber,
            vacuum_gain=self.vacuum.gain,
        )

    @property
    def intensities(self) -> tuple[Tally, Tally, Tally]:
        """The three tallies, brightest first."""
        return self.signal, self.decoy, self.vacuum


def simulate(parameters: Parameters, pulses: int, rng: Random) -> Run:
    """Send `pulses` pulses over the link and return what was counted.

    Pulses of equal photon number are alike and independent, so their clicks, basis choices and
    errors are drawn as one exact binomial or multinomial each: the time does not depend on
    `pulses`, and the statistics are those of a pulse-by-pulse simulation.
    """
    signals, decoys, vacua = multinomial(
        rng,
        pulses,
        (parameters.signal_fraction, parameters.decoy_fraction, parameters.vacuum_fraction),
    )
    return Run(
        signal=_send(parameters, parameters.signal_intensity, signals, rng),
        decoy=_send(parameters, parameters.decoy_intensity, decoys, rng),
        vacuum=_send(parameters, 0.0, vacua, rng),
    )


def _send(parameters: Parameters, intensity: float, pulses: int, rng: Random) -> Tally:
    tally = Tally(mean_photons=intensity, sent=pulses)
    x = parameters.x_basis_probability
    weights = (x * x, (1.0 - x) * (1.0 - x), 2.0 * x * (1.0 - x))
    photon_counts = multinomial(rng, pulses, _poisson_weights(intensity))
    for photons, sent in enumerate(photon_counts):
        click, error = _click_and_error(parameters, photons)
        detected = binomial(rng, sent, click)
        in_x, in_z, _ = multinomial(rng, detected, weights)
        errors_x, errors_z = binomial(rng, in_x, error), binomial(rng, in_z, error)
        tally.detected += detected
        tally.x.sifted += in_x
        tally.x.errors += errors_x
        tally.z.sifted += in_z
        tally.z.errors += errors_z
        if photons == 1:
            tally.single_photon_sent = sent
            tally.single_photon_detected = detected
            tally.single_photon_sifted = in_x + in_z
            tally.single_photon_errors = errors_x + errors_z
    return tally


def _poisson_weights(mean: float) -> list[float]:
    """Probabilities of 0, 1, 2, ... photons, until what is left cannot occur in any run."""
    weights = [math.exp(-mean)]
    # 1e-30 is far below one over any number of pulses that can be asked for.
    while weights[-1] > 1e-30 or len(weights) <= mean:
        weights.append(weights[-1] * mean / len(weights))
    return weights


def _click_and_error(parameters: Parameters, photons: int) -> tuple[float, float]:
    """Return the click probability of an n-photon pulse and the error probability of that click."""
    by_photon = -math.expm1(photons * math.log1p(-parameters.transmittance))
    by_background = parameters.background_yield * (1.0 - by_photon)
    click = by_photon + by_background
    if click == 0.0:
        return 0.0, BACKGROUND_ERROR
    wrong = parameters.misalignment * by_photon + BACKGROUND_ERROR * by_background
    return min(1.0, click), wrong / click
