"""The ledger as a process: connect, work, and connect again, until it is told to stop."""

import asyncio
import logging
import os
import secrets
import signal
import socket
from datetime import timedelta
from threading import Thread
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import start_http_server
from qslice.backoff import Backoff

from qslice_gateway.ledger import metrics
from qslice_gateway.ledger.broker import Link, LinkLost
from qslice_gateway.ledger.session import Parts, Session
from qslice_gateway.ledger.settings import LedgerSettings
from qslice_gateway.store.pool import open_async_pool

_logger = structlog.get_logger(__name__)

_RECONNECT = Backoff(base=0.2, cap=10.0)
_CONNECTIONS = 10


async def run(
    settings: LedgerSettings,
    stop: asyncio.Event | None = None,
    *,
    backoff: Backoff | None = None,
) -> None:
    """Keep the ledger until `stop` is set, or SIGTERM or SIGINT comes where none is given.

    backoff: of jobs that fail by the system's fault. Broker and database may come and go, also at
    the start: it connects again for ever.
    """
    if stop is None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # At each try it tells the same failure in seven ways; `_keep` tells it once.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    server = _serve_metrics(settings.ledger_metrics_listen)
    pool = open_async_pool(settings.database_url.get_secret_value(), size=_CONNECTIONS)
    await pool.open()
    parts = Parts(
        pool=pool,
        database_url=settings.database_url.get_secret_value(),
        name=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}",
        authority=settings.authority,
        backoff=backoff or Backoff(),
        retention=timedelta(days=settings.retention_days),
        public_url=settings.public_url.rstrip("/"),
        publish=settings.publish,
    )
    try:
        await _keep(parts, settings.amqp_url.get_secret_value(), stop)
    finally:
        await pool.close()
        if server is not None:
            server[0].shutdown()
            server[0].server_close()
            server[1].join()
    _logger.info("the ledger has stopped")


async def _keep(parts: Parts, amqp_url: str, stop: asyncio.Event) -> None:
    failures = 0
    clock = asyncio.get_running_loop().time
    while not stop.is_set():
        begun = clock()
        try:
            link = await Link.open(amqp_url, parts.name)
            metrics.RECONNECTS.inc()
            try:
                await Session(parts, link).run(stop)
            finally:
                await link.close()
        except (LinkLost, ExceptionGroup) as ended:
            lost = ended.split(LinkLost)[1] if isinstance(ended, ExceptionGroup) else None
            if lost is not None:
                _logger.error("a session failed; starting anew", exc_info=lost)
            failures = 1 if clock() - begun > 30 else failures + 1
            if failures in (1, 10):
                _logger.warning("no connection to the broker", failures=failures)
            try:
                async with asyncio.timeout(_RECONNECT.delay(failures)):
                    await stop.wait()
            except TimeoutError:
                pass


def _serve_metrics(listen: str | None) -> tuple[WSGIServer, Thread] | None:
    if listen is None:
        return None
    host, _, port = listen.rpartition(":")
    return start_http_server(int(port), host, metrics.REGISTRY)
