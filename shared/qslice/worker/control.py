"""What is called out to all workers: cancel this job, serve that project."""

from collections.abc import Callable

import structlog

from qslice import names
from qslice.amqp import Message
from qslice.messages.base import Rejected
from qslice.messages.ledger import Control
from qslice.worker.link import Link, Session

log = structlog.get_logger(__name__)


class ControlListener:
    """Hears while it is connected only: what is missed is learnt by heartbeats and by asking."""

    def __init__(self, link: Link, heard: Callable[[Control], None]) -> None:
        self._heard = heard
        link.attach(self._attach)

    async def _attach(self, session: Session) -> None:
        channel = await session.channel()
        queue = await channel.declare_queue(exclusive=True, auto_delete=True)
        await queue.bind(names.EXCHANGE_CONTROL)
        await channel.consume(queue.name, self._message, no_ack=True)

    def _message(self, message: Message) -> None:
        try:
            control = Control.read(message.body)
        except Rejected as wrong:
            log.warning("a control message cannot be read", error=str(wrong))
            return
        self._heard(control)
