"""Ports and passwords of an instance: picked once, kept, picked again only when they must be."""

from __future__ import annotations

import random
import secrets
import socket
from collections.abc import Collection
from pathlib import Path

from qslice_native.files import read_json, write_json
from qslice_native.say import NativeError

LOOPBACK = "127.0.0.1"
#: Below the range from which the kernel takes the ports of outgoing connections.
_PORTS = range(20_000, 32_000)
_SECRET_LENGTH = 24


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def pick_free_port(taken: Collection[object] = ()) -> int:
    """A loopback port that nobody listens on now, outside the kernel's range for clients."""
    for port in random.sample(_PORTS, 500):
        if port not in taken and port_is_free(port):
            return port
    raise NativeError(f"no free port between {_PORTS.start} and {_PORTS.stop} on {LOOPBACK}")


class InstanceSettings:
    """A small file of ports and secrets, read anew each time: other runs may have changed it.

    What is damaged or lost is made anew. Writers hold the lock of the instance.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def _set(self, key: str, value: int | str) -> None:
        write_json(self._path, {**read_json(self._path), key: value})

    def port(self, key: str) -> int:
        """The port of this name; a free one is picked the first time."""
        known = read_json(self._path).get(key)
        if isinstance(known, int) and known in _PORTS:
            return known
        return self._pick_port(key)

    def _pick_port(self, key: str) -> int:
        port = pick_free_port(taken=read_json(self._path).values())
        self._set(key, port)
        return port

    def repick_busy_ports(self, *keys: str) -> None:
        """Before a stopped part starts: replace those of its ports that others took meanwhile."""
        for key in keys:
            if not port_is_free(self.port(key)):
                self._pick_port(key)

    def secret(self, key: str) -> str:
        """The password of this name; generated the first time."""
        known = read_json(self._path).get(key)
        if isinstance(known, str) and len(known) >= _SECRET_LENGTH:
            return known
        fresh = secrets.token_urlsafe(_SECRET_LENGTH)
        self._set(key, fresh)
        return fresh
