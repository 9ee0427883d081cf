"""gunicorn, set up by the gateway's own settings: threads for requests and for live streams."""

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


class Worker(ThreadWorker):  # type: ignore[misc]
    """A process whose live streams end when it is asked to stop."""

    def handle_exit(self, sig: int, frame: Any) -> None:
        streams.STOPPING.set()
        super().handle_exit(sig, frame)


class Server(BaseApplication):  # type: ignore[misc]
    """The gateway behind gunicorn."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        settings = self._settings
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
        logs.set_up(self._settings.log_level, self._settings.log_format)
        return create_app(self._settings)


def _forget(server: Any, worker: Any) -> None:
    """Gauges of a process that ended count no more."""
    del server
    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def _close(server: Any, worker: Any) -> None:
    del server
    app = getattr(worker, "wsgi", None)
    if app is not None:
        close_app(app)
