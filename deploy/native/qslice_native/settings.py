"""Ports and passwords of an instance: picked once, kept, picked again only when they must be."""

from __future__ import annotations

import random
import secrets
import socket
from pathlib import Path
from typing import Any

from qslice_native.files import read_json, write_json
from qslice_native.say import NativeError

LOOPBACK = "127.0.0.1"
#: Below the range from which the kernel takes the ports of outgoing connections.
_PORTS = range(20_000, 32_000)


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


class InstanceSettings:
    """A small file of ports and secrets. A damaged or lost one is made anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, Any] = read_json(path)

    def _keep(self, key: str, value: int | str) -> None:
        self._values[key] = value
        write_json(self._path, self._values)

    def port(self, key: str) -> int:
        """The port of this name; a free one is picked the first time."""
        known = self._values.get(key)
        if isinstance(known, int) and known in _PORTS:
            return known
        taken = {value for value in self._values.values() if isinstance(value, int)}
        for port in random.sample(_PORTS, 200):
            if port not in taken and port_is_free(port):
                self._keep(key, port)
                return port
        raise NativeError(f"no free port between {_PORTS.start} and {_PORTS.stop} on {LOOPBACK}")

    def repick_busy_ports(self, *keys: str) -> None:
        """Before a stopped part starts: forget those of its ports that others took meanwhile."""
        for key in keys:
            if not port_is_free(self.port(key)):
                del self._values[key]
                self.port(key)

    def secret(self, key: str) -> str:
        """The password of this name; generated the first time."""
        known = self._values.get(key)
        if isinstance(known, str) and len(known) >= 24:
            return known
        fresh = secrets.token_urlsafe(24)
        self._keep(key, fresh)
        return fresh
