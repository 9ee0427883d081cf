"""`qslice-mrs`: the publisher as a program."""

import asyncio
import signal

from qslice import logs
from qslice.settings import load

from qslice_mrs.service import Service
from qslice_mrs.settings import MrsSettings


async def _run(settings: MrsSettings) -> None:
    service = Service(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.stop)
    await service.run()


def main() -> None:
    """Publish until a signal ends it; a stop lets what is under way finish."""
    settings = load(MrsSettings)
    logs.set_up(settings.log_level, settings.log_format)
    asyncio.run(_run(settings))
