"""Whose turn it is: a worker's rotation over the queues of all projects.

Pure: it does no I/O, and the time is an argument (seconds of any monotonic clock).

A queue stands in one of two rows. In *turns* stand those that had a message when last asked
("busy") or were not asked yet, the one served longest ago in front. In *idle* stand those that
were found empty, the one found first in front. Who was served goes behind everybody else, so
between two messages of one queue every other queue that has some gives one, and a project with
10,000 waiting delays another's single job by no more than one slot's work.

An answer "empty" is believed for a moment only while other queues keep the slots busy: asking
hundreds of empty queues again for every free slot would cost more than the jobs. Where nobody has
anything, nobody is asked: the worker listens (see `qslice.worker.feeder`).
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from itertools import takewhile

#: Seconds for which "empty" is believed: the larger of the two, so that asking idle queues again
#: (beyond two) stays below 100 requests a second.
BELIEVED_S = 0.02
BELIEVED_PER_QUEUE_S = 0.01


class Rotation:
    """The queues of one worker. Several may be asked at once; each ask gets its answer."""

    def __init__(
        self, believed_s: float = BELIEVED_S, believed_per_queue_s: float = BELIEVED_PER_QUEUE_S
    ) -> None:
        self._believed_s = believed_s
        self._believed_per_queue_s = believed_per_queue_s
        self._turns: OrderedDict[str, None] = OrderedDict()
        #: When each was found empty: the time, and the number of messages served until then.
        self._idle: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._served = 0
        self._busy: set[str] = set()
        self._asking: Counter[str] = Counter()

    def __contains__(self, queue: str) -> bool:
        return queue in self._turns or queue in self._idle

    def __len__(self) -> int:
        return len(self._turns) + len(self._idle)

    def __iter__(self) -> Iterator[str]:
        yield from self._turns
        yield from self._idle

    @property
    def quiet(self) -> bool:
        """Whether each queue was asked and found empty, and no answer is outstanding."""
        return not self._turns and not self._asking

    def add(self, queue: str) -> None:
        """A queue to serve from now on, before the others; one that is known stays as it is."""
        if queue not in self:
            self._to_the_front([queue])

    def discard(self, queue: str) -> None:
        """Serve it no more."""
        self._turns.pop(queue, None)
        self._idle.pop(queue, None)
        self._busy.discard(queue)

    def next(self, now: float) -> str | None:
        """The queue to ask now, or None; the caller then tells how it went.

        A queue that may be empty is asked once at a time, a busy one as often as slots are free.
        """
        if self._busy:
            self._doubt(now)
        for queue in self._turns:
            if queue in self._busy or not self._asking[queue]:
                self._turns.move_to_end(queue)
                self._asking[queue] += 1
                return queue
        return None

    def found(self, queue: str) -> None:
        """The ask gave a message."""
        self.unanswered(queue)
        self.served(queue)

    def empty(self, queue: str, now: float) -> None:
        """The ask found nothing."""
        self.unanswered(queue)
        if queue in self:
            self._busy.discard(queue)
            self._turns.pop(queue, None)
            self._idle[queue] = (now, self._served)
            self._idle.move_to_end(queue)

    def unanswered(self, queue: str) -> None:
        """The ask came to nothing: the connection broke, or the queue is gone."""
        self._asking[queue] -= 1
        if self._asking[queue] <= 0:
            del self._asking[queue]

    def served(self, queue: str) -> None:
        """It gave a message, asked or not: there may be more, but others come first."""
        self._served += 1
        if queue in self:
            self._idle.pop(queue, None)
            self._busy.add(queue)
            self._turns[queue] = None
            self._turns.move_to_end(queue)

    def forget(self) -> None:
        """Nothing is known any more (a new connection): every queue is to be asked."""
        self._to_the_front(list(self._idle))
        self._busy.clear()
        self._asking.clear()

    def _doubt(self, now: float) -> None:
        """Let those whose "empty" is too old be asked, before those served since.

        Only where something was served since: on a broker so slow that answers are old at once,
        empty queues would be asked for ever before the busy one.
        """
        oldest = now - max(self._believed_s, self._believed_per_queue_s * len(self))

        def is_doubtful(queue: str) -> bool:
            at, served = self._idle[queue]
            return at <= oldest and served < self._served

        self._to_the_front(list(takewhile(is_doubtful, self._idle)))

    def _to_the_front(self, queues: list[str]) -> None:
        for queue in reversed(queues):
            self._idle.pop(queue, None)
            self._turns[queue] = None
            self._turns.move_to_end(queue, last=False)
