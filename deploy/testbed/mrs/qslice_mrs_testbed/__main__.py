"""`python -m qslice_mrs_testbed --listen 127.0.0.1:0 --state DIR`: prints its address, serves."""

import argparse
import socket
import sys
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication

from qslice_mrs_testbed.app import create_app
from qslice_mrs_testbed.registry import Registry
from qslice_mrs_testbed.store import Store
from qslice_mrs_testbed.tokens import Tokens, open_realm

#: One process, since switches and counts live in its memory; a fault may hold many threads.
THREADS = 64


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, registry: Registry, options: dict[str, Any]) -> None:
        self._registry = registry
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return create_app(self._registry)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="qslice-mrs-testbed", description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:9001", help="host:port; port 0: a free one")
    parser.add_argument("--state", type=Path, required=True, help="folder of keys and database")
    parser.add_argument("--database", help="postgresql://…; without it a SQLite file in --state")
    parser.add_argument("--realm", default="slices")
    parser.add_argument("--audience", default="slices-mrs-backend")
    parser.add_argument("--public-url", help="as clients reach it; default http(s)://host:port")
    parser.add_argument("--tls-certificate", type=Path)
    parser.add_argument("--tls-key", type=Path)
    return parser.parse_args()


def main() -> None:
    """Serve until a signal ends it; the address is the first line of standard output."""
    given = _arguments()
    host, _, port = given.listen.rpartition(":")
    listener = socket.create_server((host.strip("[]"), int(port)), backlog=512)
    listener.set_inheritable(True)
    scheme = "https" if given.tls_certificate else "http"
    url = given.public_url or f"{scheme}://{host}:{listener.getsockname()[1]}"
    given.state.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {
        "bind": f"fd://{listener.fileno()}",
        "worker_class": "gthread",
        "workers": 1,
        "threads": THREADS,
        "keepalive": 75,
        "timeout": 600,
        "graceful_timeout": 3,
        "loglevel": "warning",
        "control_socket_disable": True,
    }
    if given.tls_certificate:
        options |= {"certfile": str(given.tls_certificate), "keyfile": str(given.tls_key)}

    def ready(arbiter: Any) -> None:
        del arbiter
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()

    options["when_ready"] = ready
    realm = open_realm(given.state, f"{url}/realms/{given.realm}", given.audience)
    registry = Registry(Store(given.database, given.state), Tokens(realm), given.realm)
    registry.store.close()  # The worker that is forked now opens connections of its own.
    _Server(registry, options).run()


if __name__ == "__main__":
    main()
