"""One build that several jobs wait for."""

import asyncio
from collections import deque
from collections.abc import Callable

from qslice_runner.engine import BuildLog, Image

_KEPT_PIECES = 500


class SharedBuild:
    """All who wait read its log; it is given up when nobody waits any more."""

    def __init__(self, abandon: Callable[[], None]) -> None:
        self._abandon = abandon
        self.task: asyncio.Future[Image] = asyncio.get_running_loop().create_future()
        self._listeners: list[BuildLog] = []
        self._said: deque[str] = deque(maxlen=_KEPT_PIECES)

    async def wait(self, log_: BuildLog) -> Image:
        # Who comes late reads what was said before.
        if before := "".join(self._said):
            await log_(before)
        self._listeners.append(log_)
        try:
            return await asyncio.shield(self.task)
        except asyncio.CancelledError:
            if self._listeners == [log_]:
                self._abandon()
                self.task.cancel()
                await asyncio.wait((self.task,))
            raise
        finally:
            self._listeners.remove(log_)

    async def say(self, text: str) -> None:
        self._said.append(text)
        for listener in list(self._listeners):
            await listener(text)
