"""kill -9 of random parts, which come back a moment later."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from tests.drills.parts import Part
from tests.support.wait import wait_for

#: Seconds between two kills, and those that a part stays away; from and to.
_PAUSE_S = (1.0, 5.0)
_AWAY_S = (0.0, 3.0)


class Killer:
    """Which part is killed when follows from the seed; what that meets, from the machine."""

    def __init__(
        self,
        parts: Sequence[Part],
        seed: int,
        finished: Callable[[], int | None],
        say: Callable[[str], None],
    ) -> None:
        self._parts = parts
        self._rng = random.Random(f"{seed}-killer")
        self._finished = finished
        self._say = say

    def run(self, seconds: float, stop: threading.Event) -> None:
        """Kill for this long; all parts are back when it returns, or it raises."""
        ends = time.monotonic() + seconds
        with ThreadPoolExecutor(len(self._parts)) as pool:
            returns: list[Future[None]] = []
            while time.monotonic() < ends and not stop.is_set():
                # Often one part, at times two at once.
                for part in self._rng.sample(self._parts, self._rng.choice((1, 1, 2))):
                    away = self._rng.uniform(*_AWAY_S)
                    if self._may_kill(part):
                        part.away = True
                        returns.append(pool.submit(self._kill, part, away))
                stop.wait(self._rng.uniform(*_PAUSE_S))
            for each in returns:
                each.result()

    def _may_kill(self, part: Part) -> bool:
        """Where it was of use since it came back: else a drill could keep all from working.

        (RabbitMQ 3.10 may also lose a quorum queue that it is killed while making.)
        """
        if part.away:
            return False
        finished = self._finished()
        return finished is None or not part.kills or finished > part.finished

    def _kill(self, part: Part, away: float) -> None:
        self._say(f"kill -9 {part.name}, back in {away:.1f} s")
        part.kill()
        part.kills += 1
        time.sleep(away)
        part.start()
        wait_for(lambda: self._finished() is not None, 180, "the database answers")
        part.finished = self._finished() or 0
        part.away = False
