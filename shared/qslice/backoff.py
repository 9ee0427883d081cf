"""When a job that failed by the system's fault is tried again.

Full jitter over an exponential (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015),
with a floor of half: the sum of the shortest delays still exceeds ten minutes, since a cloud's
control plane was seen to take 570 s to come back.
"""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Delays in seconds: `base * 2**n`, at most `cap`, of which at least half is waited."""

    base: float = 2.0
    cap: float = 300.0
    #: Failures after which the job is dead.
    limit: int = 12

    def exhausted(self, faults: int) -> bool:
        """Whether a job with this many system failures is given up."""
        return faults >= self.limit

    def ceiling(self, faults: int) -> float:
        """The longest delay after the n-th failure (n counts from 1)."""
        return min(self.cap, self.base * 2.0 ** min(max(faults, 1) - 1, 60))

    def delay(self, faults: int, rng: random.Random | None = None) -> float:
        """A delay between half of the ceiling and the ceiling."""
        return self.ceiling(faults) * (rng or random).uniform(0.5, 1.0)

    def shortest_total(self) -> float:
        """Seconds over which a job is tried at the least."""
        return sum(self.ceiling(n) / 2 for n in range(1, self.limit))
