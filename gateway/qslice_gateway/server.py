"""gunicorn, set up by the gateway's own settings: threads for requests and for live streams."""

import socket
import struct
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import ThreadWorker
from prometheus_client.multiprocess import mark_process_dead
from qslice import logs

from qslice_gateway import streams
from qslice_gateway.app import close_app, create_app
from qslice_gateway.settings import GatewaySettings

#: Seconds that requests have to end once the server is asked to stop.
GRACE_S = 20


class PlainLogger(Logger):  # type: ignore[misc]
    """gunicorn's lines go the way of all others: through the one redaction."""

    def setup(self, cfg: Any) -> None:
        del cfg
        self.error_log.propagate = True
        self.access_log.disabled = True

    def reopen_files(self) -> None:
        """There are none."""


class _Impatient:
    """A listener whose connections give up a read or a write after some seconds."""

    def __init__(self, listener: socket.socket, seconds: float) -> None:
        self._listener = listener
        whole, rest = divmod(seconds, 1)
        self._timeout = struct.pack("ll", int(whole), int(rest * 1_000_000))

    def accept(self) -> tuple[socket.socket, Any]:
        connection, address = self._listener.accept()
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connection.setsockopt(socket.SOL_SOCKET, option, self._timeout)
        return connection, address

    def getsockname(self) -> Any:
        return self._listener.getsockname()


class Worker(ThreadWorker):  # type: ignore[misc]
    """A process whose live streams end when it is asked to stop, and whose clients may not stall.

    gunicorn's threads wait for a client without an end: a few that send half a request, or never
    read what they asked for, would take them all.
    """

    def accept(self, listener: Any) -> None:
        super().accept(_Impatient(listener, self.app.settings.client_timeout_s))

    def handle_exit(self, sig: int, frame: Any) -> None:
        streams.STOPPING.set()
        super().handle_exit(sig, frame)


class Server(BaseApplication):  # type: ignore[misc]
    """The gateway behind gunicorn."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        super().__init__()

    def load_config(self) -> None:
        settings = self.settings
        for name, value in {
            "bind": settings.listen,
            "workers": settings.workers,
            "worker_class": "qslice_gateway.server.Worker",
            # A stream keeps its thread; those of the requests are beside them.
            "threads": settings.threads + settings.max_streams,
            "worker_connections": 1000,
            "keepalive": 75,
            "graceful_timeout": GRACE_S,
            "timeout": 120,
            "worker_tmp_dir": "/dev/shm",  # noqa: S108
            "logger_class": "qslice_gateway.server.PlainLogger",
            "control_socket_disable": True,
            "child_exit": _forget,
            "worker_exit": _close,
            "proc_name": "qslice-gateway",
        }.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        logs.set_up(self.settings.log_level, self.settings.log_format)
        return create_app(self.settings)


def _forget(server: Any, worker: Any) -> None:
    """Gauges of a process that ended count no more."""
    del server
    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def _close(server: Any, worker: Any) -> None:
    del server
    app = getattr(worker, "wsgi", None)
    if app is not None:
        close_app(app)
