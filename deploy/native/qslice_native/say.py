"""What a person sees while parts are installed and started: one line per step, also without TTY."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

#: A step that takes longer says so this often (seconds).
REMINDER_S = 10.0


class NativeError(Exception):
    """A part cannot be installed or started. The message is for the person at the terminal."""


def say(part: str, text: str) -> None:
    """Print one line at once, so that a pipe or a CI log shows it when it happens."""
    print(f"== {part}: {text}", file=sys.stdout, flush=True)


@dataclass
class Patience:
    """Reminds the reader, every `REMINDER_S` seconds, that a step is still under way."""

    part: str
    doing: str
    _began: float = field(default_factory=time.monotonic)
    _said: float = field(default_factory=time.monotonic)

    @property
    def waited_s(self) -> float:
        return time.monotonic() - self._began

    def tick(self, detail: str = "") -> None:
        """Call in the waiting loop; prints only when the last line is old."""
        now = time.monotonic()
        if now - self._said >= REMINDER_S:
            self._said = now
            more = f" ({detail})" if detail else ""
            say(self.part, f"still {self.doing}, {self.waited_s:.0f} s so far{more}")


@contextmanager
def step(part: str, doing: str) -> Iterator[Patience]:
    """Say what begins, and how long it took once it is done."""
    say(part, f"{doing} ...")
    patience = Patience(part, doing)
    yield patience
    say(part, f"done in {patience.waited_s:.1f} s")
