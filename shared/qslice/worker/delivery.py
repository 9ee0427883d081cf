"""A message on its way through a worker: where it came from, and how it is settled."""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from qslice import names
from qslice.amqp import Channel, Cut, Message
from qslice.worker.link import Session

log = structlog.get_logger(__name__)


@dataclass
class Consumer:
    """By which messages of a queue come by themselves."""

    queue: str
    prefetch: int
    unacked: int = 0
    open: bool = True

    @property
    def credit(self) -> int:
        """Messages that may come without anything being acknowledged."""
        return self.prefetch - self.unacked


class Delivery:
    """A message of a project's queue, to be acknowledged or given back once."""

    def __init__(
        self,
        session: Session,
        channel: Channel,
        queue: str,
        message: Message,
        consumer: Consumer | None = None,
        settle: "Callable[[Delivery, bool], None] | None" = None,
    ) -> None:
        self._channel = channel
        self._settle = settle or Delivery.send
        self._settled = False
        self.consumer = consumer
        self.queue = queue
        self.project = names.project_of(queue)
        self.session = session
        self.message = message

    def ack(self) -> None:
        """Done with it. After a cut nothing happens: the broker delivers it again."""
        if not self._settled:
            self._settled = True
            self._settle(self, True)

    def give_back(self) -> None:
        """Somebody else may have it; the broker counts that against the delivery limit."""
        if not self._settled:
            self._settled = True
            self._settle(self, False)

    def send(self, done: bool) -> None:
        """Tell the broker, for whoever settles it in its turn."""
        try:
            if done:
                self._channel.ack(self.message)
            else:
                self._channel.give_back(self.message)
        except Cut:
            log.debug("not settled over a cut: it will come again", queue=self.queue)
