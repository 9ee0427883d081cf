"""Takes messages from the project queues: as many as there are free slots, every project in turn.

Two modes. *Listening*, while there are slots for everybody or nobody has anything: a consumer on
every queue, so that what comes starts at once. Their prefetch shares out the free slots, and a
message is acknowledged only when the one that may follow it has a slot as well. *Draining*, while
slots are scarce: the consumers are cancelled, what waits stays ready for other workers, and each
free slot asks (basic.get) the queue whose turn it is, as `qslice.fairness` says.
"""

from collections.abc import Callable

from prometheus_client import Gauge

from qslice import names
from qslice.amqp import Cut
from qslice.fairness import Rotation
from qslice.worker.delivery import Delivery
from qslice.worker.intake import Intake
from qslice.worker.link import Link

FREE = Gauge("qslice_worker_slots_free", "Slots without a job")


class Feeder:
    """Hands each message, with a slot, to `take`; `release` gives the slot back."""

    def __init__(self, link: Link, kind: str, slots: int, take: Callable[[Delivery], None]) -> None:
        self._link = link
        self._kind = kind
        self._take = take
        self._free = slots
        self._wanted: set[str] = set()
        self._intake: Intake | None = None
        self.slots = slots
        self.rotation = Rotation()
        self.stopping = False

    @property
    def free(self) -> int:
        """Slots that have no job and wait for no answer."""
        return self._free

    @free.setter
    def free(self, slots: int) -> None:
        FREE.inc(slots - self._free)
        self._free = slots

    def hand_out(self, delivery: Delivery) -> None:
        """A slot, already taken, gets its message."""
        self._take(delivery)

    def release(self) -> None:
        self.free += 1
        if self._intake is not None:
            self._intake.pump()

    def serve(self, projects: set[str]) -> None:
        """These projects, and no others."""
        self._wanted = {names.todo(project, self._kind) for project in projects}
        for queue in [queue for queue in self.rotation if queue not in self._wanted]:
            self.rotation.discard(queue)
        self._look()

    def add(self, project: str) -> None:
        self._wanted.add(names.todo(project, self._kind))
        self._look()

    def discard(self, project: str) -> None:
        queue = names.todo(project, self._kind)
        self._wanted.discard(queue)
        self.rotation.discard(queue)
        self._look()

    @property
    def missing(self) -> list[str]:
        """Queues that are wanted but not found yet, or gone."""
        return sorted(queue for queue in self._wanted if queue not in self.rotation)

    async def run(self) -> None:
        """Feed, on every session anew, until cancelled."""
        FREE.inc(self._free)
        try:
            while True:
                session = await self._link.session()
                self.rotation.forget()
                try:
                    self._intake = await Intake.open(self, session)
                    await self._intake.run()
                except Cut:
                    session.fail()
                finally:
                    self._intake = None
        finally:
            FREE.dec(self._free)

    async def stop(self) -> None:
        """Take nothing more; what has no job yet goes back to its queue."""
        self.stopping = True
        if self._intake is not None:
            await self._intake.stop()

    def _look(self) -> None:
        if self._intake is not None:
            self._intake.look()
