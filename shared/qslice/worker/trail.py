"""What is still to be told of one attempt: events in their order, log in batches. Pure."""

from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any

from qslice.messages.ledger import Event, EventType
from qslice.worker.handler import Stream
from qslice.worker.results import About, clean, event, json_value

#: Characters of log in one event.
BATCH = 16 * 1024
#: Changes between streams that one batch keeps in order; where there are more, each stream's
#: pieces are put together.
MAX_PIECES = 32
#: Characters of one attempt's log that are sent; the ledger keeps as much.
MAX_LOG = 4 * 1024 * 1024
#: What an entry costs beside its text, so that a bound in characters bounds empty entries as well.
_OVERHEAD = 64

_FULL = f"[the log is longer than {MAX_LOG // 1024**2} MiB; what follows is not kept]\n"


class Trail:
    """Events that wait to be sent. `take` hands out what goes next, in order."""

    def __init__(self, about: About, now: Callable[[], datetime]) -> None:
        self._about = about
        self._now = now
        self._pending: deque[Event] = deque()
        #: Pieces of log since the last other event: stream and text.
        self._log: list[tuple[Stream, list[str]]] = []
        self._log_since: datetime | None = None
        self._log_size = 0
        self._seq = 0
        self._room = MAX_LOG
        self._lost = 0
        #: Characters that wait or are under way.
        self.size = 0

    @property
    def empty(self) -> bool:
        return not self._pending and not self._log

    @property
    def batch_is_full(self) -> bool:
        return self._log_size >= BATCH

    def log(self, stream: Stream, text: str) -> None:
        """Add output; beyond `MAX_LOG` characters it is passed over."""
        if not text or self._room < 0:
            return
        if self._lost:
            self._say_what_was_lost()
        if len(text) > self._room:
            self._add(stream, text[: self._room])
            self._add("system", _FULL)
            self._room = -1
            return
        self._room -= len(text)
        self._add(stream, text)

    def lose(self, text: str) -> None:
        """Leave output out, since nothing can be sent; the log will say how much."""
        self._lost += len(text)

    def add(self, type_: EventType, **fields: Any) -> None:
        """Add another event. Raises `ValueError` where its data is no JSON."""
        if "data" in fields:
            fields["data"] = json_value(fields["data"]) or None
        added = event(self._about, type_, self._now(), **fields)
        if (
            type_ is EventType.PROGRESS
            and self._pending
            and self._pending[-1].type is EventType.PROGRESS
            and not self._log
        ):
            self._pending[-1] = added
            return
        self._close_log()
        self._pending.append(added)
        self.size += _OVERHEAD + len(added.text or "")

    def take(self) -> list[Event]:
        """All that waits. It still counts in `size` until `sent`."""
        if self._lost:
            self._say_what_was_lost()
        self._close_log()
        taken = list(self._pending)
        self._pending.clear()
        return taken

    def sent(self, events: list[Event]) -> None:
        """They need no room any more."""
        self.size -= sum(_OVERHEAD + len(sent.text or "") for sent in events)

    def _add(self, stream: Stream, text: str) -> None:
        text = clean(text)
        while text:
            part, text = text[:BATCH], text[BATCH:]
            if self._log_size and self._log_size + len(part) > BATCH:
                self._close_log()
            if self._log and self._log[-1][0] == stream:
                self._log[-1][1].append(part)
            else:
                self._log.append((stream, [part]))
                self.size += _OVERHEAD
            self._log_since = self._log_since or self._now()
            self._log_size += len(part)
            self.size += len(part)

    def _say_what_was_lost(self) -> None:
        lost, self._lost = self._lost, 0
        self._add("system", f"[{lost} characters of output were lost: the broker was away]\n")

    def _close_log(self) -> None:
        """Make events of the pieces, one per change of the stream."""
        if not self._log:
            return
        pieces, at = self._log, self._log_since or self._now()
        self._log, self._log_size, self._log_since = [], 0, None
        self.size -= _OVERHEAD * len(pieces)
        if len(pieces) > MAX_PIECES:
            together: dict[Stream, list[str]] = {}
            for stream, texts in pieces:
                together.setdefault(stream, []).extend(texts)
            pieces = list(together.items())
        for stream, texts in pieces:
            self._seq += 1
            self._pending.append(
                event(
                    self._about,
                    EventType.LOG,
                    at,
                    seq=self._seq,
                    stream=stream,
                    text="".join(texts),
                )
            )
            self.size += _OVERHEAD
