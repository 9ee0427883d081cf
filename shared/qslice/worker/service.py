"""A worker as a program: settings, logs, metrics, signals."""

import asyncio
import signal
import sys
from collections.abc import Callable
from typing import TypeVar

import structlog
from prometheus_client import start_http_server

from qslice import logs
from qslice.settings import load
from qslice.worker.handler import Handler
from qslice.worker.loop import Worker
from qslice.worker.settings import WorkerSettings

log = structlog.get_logger(__name__)

S = TypeVar("S", bound=WorkerSettings)


def run_service(handler_factory: Callable[[S], Handler], settings_model: type[S]) -> None:
    """Serve until SIGTERM or SIGINT; the second of them does not wait for the grace.

    Ends the program with a message that names each wrong setting, and with code 1 where the
    worker failed; then it is to be started again.
    """
    settings = load(settings_model)
    logs.set_up(settings.log_level, settings.log_format)
    try:
        asyncio.run(_serve(handler_factory(settings), settings))
    except Exception:
        log.exception("the worker failed")
        sys.exit(1)


async def _serve(handler: Handler, settings: WorkerSettings) -> None:
    worker = Worker(handler, settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    if settings.metrics_listen is None:
        await worker.run()
        return
    host, _, port = settings.metrics_listen.rpartition(":")
    server, thread = start_http_server(int(port), host)
    try:
        await worker.run()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
