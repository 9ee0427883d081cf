"""Since when the ledger has heard everything that workers said: only then does silence count."""

from collections.abc import Callable

#: Seconds that a request may wait for its answer, and the watcher for its turn, before what is
#: not in the database cannot be taken for not said.
MAX_LAG_S = 2.0


class Listening:
    """A clock that starts anew whenever the ledger may have missed something.

    A worker is lost when its lease is over *and* the ledger has listened for a whole lease: its
    silence then fell into a time in which it would have been heard.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()

    def interrupted(self) -> None:
        """The ledger, or the database, was away until now."""
        self._since = self._clock()

    def waited(self, lag_s: float) -> None:
        """A request waited for so long."""
        if lag_s > MAX_LAG_S:
            self.interrupted()

    @property
    def seconds(self) -> float:
        return self._clock() - self._since
