"""Calls of the Docker SDK, which block, from the event loop; and what their errors mean."""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException
from qslice.faults import SystemFault

T = TypeVar("T")
C = TypeVar("C", bound=docker.APIClient)
#: Gets an `APIClient`; the SDK's types are incomplete.
Call = Callable[[Any], T]

_TIMEOUT_S = 120
#: The event loop reads the connections to containers itself, so they must be plain sockets.
_TRANSPORTS = ("unix://", "tcp://", "http://")


def unavailable(error: object) -> SystemFault:
    return SystemFault(
        "docker_unavailable", f"the Docker engine of the runner does not answer: {error}"
    )


def fault(error: Exception) -> SystemFault:
    """Whose fault an error of the engine is, where its caller knows no better: ours."""
    text = str(getattr(error, "explanation", None) or error)
    if "no space left on device" in text.lower():
        return SystemFault("disk_full", f"the disk of the runner is full: {text}")
    if isinstance(error, APIError) and error.status_code is not None:
        return SystemFault("docker_unavailable", f"the Docker engine refused: {text}")
    return unavailable(text)


class Daemon:
    """The Docker engine, asked in threads of its own: as many as there are slots, and some."""

    def __init__(self, host: str | None, threads: int) -> None:
        self.host = host or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="docker")
        self._clients: list[docker.APIClient] = []
        #: Known after the first answer; spares every further client the question.
        self._version: str | None = None

    async def call(self, function: Call[T]) -> T:
        """Run a call in a thread. Raises `APIError` for what the engine answered, else a fault.

        A cancel waits for the call, so that what it made is known and can be removed.
        """
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._pool, self._work, function)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait((running,))
            raise

    def client(self, kind: type[C]) -> C:
        """A new client; close it. Raises `SystemFault`."""
        if not self.host.startswith(_TRANSPORTS):
            raise SystemFault(
                "internal",
                f"the Docker engine is reached by its socket or plain TCP, not by {self.host}; "
                "where it is on another host, through a tunnel",
            )
        try:
            client = kind(base_url=self.host, version=self._version or "auto", timeout=_TIMEOUT_S)
        except DockerException as error:
            raise unavailable(error) from None
        self._version = client.api_version
        return client

    def close(self) -> None:
        """Blocks until the calls under way are over."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for client in self._clients:
            client.close()

    def _work(self, function: Call[T]) -> T:
        client = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = self.client(docker.APIClient)
            self._clients.append(client)
        try:
            return function(client)
        except APIError as error:
            if "no space left on device" in str(error.explanation).lower():
                raise fault(error) from None
            raise
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise unavailable(error) from None
