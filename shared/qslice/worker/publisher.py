"""Publishing with confirms: one channel for all, many messages under way at once."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from prometheus_client import Counter

from qslice.amqp import Channel, Cut, Nacked, Refused
from qslice.backoff import Backoff
from qslice.worker.link import Link, Session

log = structlog.get_logger(__name__)

#: RabbitMQ's words when it closes a channel over a message (`rabbit_channel:check_msg_size`).
_TOO_LARGE = re.compile(r"message size \d+ is larger than (?:configured )?max size (\d+)")
#: Failures in a row that are nothing special around a reconnect.
_PATIENCE = 4

AGAIN = Counter("qslice_worker_published_again", "Messages published again for want of a confirm")

#: Whether a message is still to be published.
Still = Callable[[], Awaitable[bool]]


class TooLarge(Exception):
    """The broker does not take a message of this size."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the message has {size} bytes, the broker takes {limit}")
        self.limit = limit


class Publisher:
    """Messages that must arrive: each is confirmed by the broker, or published again."""

    def __init__(self, link: Link, backoff: Backoff | None = None) -> None:
        self._link = link
        self._backoff = backoff or Backoff(base=0.1, cap=5.0)
        self._opening = asyncio.Lock()
        self._channel: Channel | None = None
        #: The session that the channel belongs to.
        self._session: Session | None = None
        #: Bytes of a message that this broker takes, once it refused one.
        self._limit: int | None = None
        link.attach(self._attach)

    async def deliver(
        self,
        exchange: str,
        key: str,
        body: bytes,
        message_id: str | None = None,
        still: Still | None = None,
    ) -> bool:
        """Publish until it is confirmed, over as many connections as that takes.

        `still` is asked before each try; when it says no, nothing (more) is published, and the
        answer is False. Raises `TooLarge`.
        """
        failures = 0
        while True:
            session = await self._link.session()
            if still is not None and not await still():
                return False
            try:
                await self.publish(session, exchange, key, body, message_id)
            except (Cut, Nacked) as error:
                failures += 1
                AGAIN.inc()
                tell = log.warning if failures == _PATIENCE else log.debug
                tell("publishing again", key=key, error=str(error), failures=failures)
                await asyncio.sleep(self._backoff.delay(failures))
            else:
                return True

    async def publish(
        self,
        session: Session,
        exchange: str,
        key: str,
        body: bytes,
        message_id: str | None = None,
        headers: dict[str, Any] | None = None,
    ) -> None:
        """Publish once. Raises `Cut` or `Nacked` where it may not have arrived, `TooLarge`."""
        if self._limit is not None and len(body) > self._limit:
            raise TooLarge(len(body), self._limit)
        channel = await self._open(session)
        try:
            await channel.publish(exchange, key, body, message_id=message_id, headers=headers)
        except Refused as refused:
            self._learn(refused.text, len(body))
            raise

    def _learn(self, why: str, size: int) -> None:
        """From the broker's words at a channel's end, which ends what else was under way too."""
        found = _TOO_LARGE.search(why)
        if found is None:
            return
        self._limit = int(found[1])
        if size > self._limit:
            raise TooLarge(size, self._limit) from None

    async def _attach(self, session: Session) -> None:
        self._limit = None
        self._channel = await session.channel(confirms=True, vital=False)
        self._session = session

    async def _open(self, session: Session) -> Channel:
        """The channel, opened again after the broker closed it."""
        if session is not self._session or session.is_lost or self._channel is None:
            raise Cut("the connection was lost")
        if not self._channel.is_open:
            async with self._opening:
                if not self._channel.is_open:
                    log.warning("the broker closed the channel; opening another")
                    self._channel = await session.channel(confirms=True, vital=False)
        return self._channel
