"""Tasks that go on whatever happens to the database."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from qslice.backoff import Backoff

from qslice_gateway.ledger.broker import LinkLost
from qslice_gateway.ledger.inbox import is_outage

_logger = structlog.get_logger(__name__)
_RETRY = Backoff(base=0.5, cap=10.0)


async def steadily(
    what: str, run: Callable[[], Awaitable[None]], outage: Callable[[], None] = lambda: None
) -> None:
    """Run something again whenever it fails; only the end of the link passes through."""
    failures = 0
    loop = asyncio.get_running_loop()
    while True:
        begun = loop.time()
        try:
            return await run()
        except LinkLost:
            raise
        except Exception as wrong:
            outage()
            failures = 1 if loop.time() - begun > 60 else failures + 1
            if not is_outage(wrong):
                _logger.exception("failed; going on", what=what)
            elif failures == 1:
                _logger.warning("the database does not answer", what=what, error=str(wrong).strip())
            await asyncio.sleep(_RETRY.delay(failures))
