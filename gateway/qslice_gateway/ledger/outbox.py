"""Waking the relay: by `NOTIFY` of the gateways, and by this ledger's own parts."""

import asyncio

import psycopg
import structlog
from qslice.backoff import Backoff

from qslice_gateway.store.doorbell import CHANNEL

_logger = structlog.get_logger(__name__)
_RETRY = Backoff(base=0.5, cap=5.0)
#: Seconds after which a quiet connection is looked at.
_QUIET_S = 30.0


class Waking:
    """Set when the outbox may hold something new."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def wake(self) -> None:
        self.event.set()

    async def listen(self, url: str) -> None:
        """Hear the doorbells, for ever; while the database is away the relay looks by itself."""
        failures = 0
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    url, autocommit=True, application_name="qslice-listen", connect_timeout=10
                ) as conn:
                    await conn.execute(f"LISTEN {CHANNEL}")
                    self.wake()
                    while True:
                        async for _ in conn.notifies(timeout=_QUIET_S):
                            failures = 0
                            self.wake()
                        # A connection that died without a word is noticed here.
                        await conn.execute("SELECT 1")
            except psycopg.OperationalError as lost:
                failures += 1
                if failures == 1:
                    _logger.warning("not listening", error=str(lost).strip())
                await asyncio.sleep(_RETRY.delay(failures))
