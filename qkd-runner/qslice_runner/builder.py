"""One build by the engine's classic builder, in a thread, that can be broken off."""

import asyncio
import contextlib
import re
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import docker
import requests
from docker.errors import APIError
from docker.types.daemon import CancellableStream
from docker.utils import parse_repository_tag
from qslice.faults import Fault, SystemFault, UserFault

from qslice_runner import daemon as daemons
from qslice_runner.daemon import Daemon
from qslice_runner.dockerfile import forbidden
from qslice_runner.output import last_lines

#: Takes a piece of the log, in the event loop.
Emit = Callable[[str], Awaitable[None]]
_KEPT_LINES = 40
_LAYER = re.compile(r"^ ---> ([0-9a-f]{12})$", re.M)


@dataclass(frozen=True)
class BuildPlan:
    """What is built, and how."""

    context: BinaryIO
    dockerfile: str
    bases: tuple[str, ...]
    tag: str
    labels: Mapping[str, str]
    network: str
    memory_mb: int
    air_gapped: bool


class BrokenOff(Exception):
    """The build was broken off by `Build.stop`."""


class _Client(docker.APIClient):  # the SDK gives no way to break a build off
    """Keeps the response of a build or pull, so that another thread can end it."""

    response: requests.Response | None = None

    def _stream_helper(self, response: requests.Response, decode: bool = False) -> Iterator[Any]:
        self.response = response
        stream: Iterator[Any] = super()._stream_helper(response, decode)  # type: ignore[misc]
        return stream


class Build:
    """Use it once: `await run()`; `stop()` makes it raise `BrokenOff`."""

    def __init__(self, daemon: Daemon, plan: BuildPlan, emit: Emit) -> None:
        self._daemon = daemon
        self._plan = plan
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._lock = threading.Lock()
        self._stream: CancellableStream[Any] | None = None
        self._stopped = False

    @property
    def last_layer(self) -> str | None:
        """The image of the last step that came to its end, by the first of its digits."""
        found = _LAYER.findall("".join(self._lines))
        return found[-1] if found else None

    async def run(self) -> None:
        """Pull what is missing and build. Raises a fault, or `BrokenOff`."""
        await self._daemon.call(lambda _: self._work())

    def stop(self) -> None:
        """End it: the engine kills the step that runs and removes its container."""
        with self._lock:
            self._stopped = True
            if self._stream is not None:
                with contextlib.suppress(OSError):
                    self._stream.close()

    def _work(self) -> None:
        client = self._daemon.client(_Client)
        try:
            for base in self._plan.bases:
                self._have(client, base)
            self._build(client)
        finally:
            client.close()

    def _have(self, client: Any, base: str) -> None:
        """Pull a base image that is not here, and refuse triggers in it."""
        repository, tag = parse_repository_tag(base)
        name = base if tag else f"{base}:latest"
        try:
            found = client.inspect_image(name)
        except APIError as error:
            if error.status_code != 404:
                raise _build_fault(error) from None
            if self._plan.air_gapped:
                raise UserFault(
                    "build_failed",
                    f"the base image {base} is not on this runner, which reaches no registry; use "
                    "one that is there, or ask its operator for it",
                ) from None
            try:
                self._say(f"Pulling {name}\n")
                for message in self._follow(
                    client,
                    lambda: client.pull(repository, tag or "latest", stream=True, decode=True),
                ):
                    if "error" in message:
                        raise _pull_fault(base, str(message["error"]))
            except APIError as refused:
                raise _pull_fault(base, str(refused.explanation or refused)) from None
            found = client.inspect_image(name)
        if (found.get("Config") or {}).get("OnBuild"):
            raise forbidden(f"the base image {base} has ONBUILD triggers, which are refused")

    def _build(self, client: Any) -> None:
        plan = self._plan
        memory = plan.memory_mb * 1024 * 1024
        try:
            for message in self._follow(
                client,
                lambda: client.build(
                    fileobj=plan.context,
                    custom_context=True,
                    dockerfile=plan.dockerfile,
                    tag=plan.tag,
                    labels=dict(plan.labels),
                    rm=True,
                    forcerm=True,
                    network_mode=plan.network,
                    container_limits={"memory": memory, "memswap": memory},
                    use_config_proxy=False,
                    decode=True,
                ),
            ):
                if "error" in message:
                    raise self._failed(str(message["error"]))
                self._say(str(message.get("stream", "")))
        except APIError as error:
            raise _build_fault(error) from None

    def _follow(self, client: Any, begin: Callable[[], Any]) -> Iterator[dict[str, Any]]:
        """The messages of a call that goes on; raises `BrokenOff` once stopped."""
        if self._stopped:
            raise BrokenOff
        stream = begin()
        if client.response is None:
            raise SystemFault("internal", "the Docker SDK gave no stream")
        # The engine says nothing while a step is silent; the time is bounded elsewhere.
        client._disable_socket_timeout(client._get_raw_response_socket(client.response))
        with self._lock:
            self._stream = CancellableStream(stream, client.response)
        try:
            while not self._stopped:
                try:
                    yield next(stream)
                except StopIteration:
                    break
        except Exception:
            if not self._stopped:
                raise
        finally:
            client.response.close()
        if self._stopped:
            raise BrokenOff

    def _say(self, text: str) -> None:
        """Into the log; waits for it, so that a loud build does not fill our memory."""
        if text:
            self._lines.append(text)
            asyncio.run_coroutine_threadsafe(_awaited(self._emit(text)), self._loop).result()

    def _failed(self, error: str) -> Fault:
        low = error.lower()
        if "no space left on device" in low and "returned a non-zero code" not in low:
            return SystemFault("disk_full", f"the disk of the runner is full: {error}")
        if low.endswith("returned a non-zero code: 137"):
            error += f" (killed; a build may use {self._plan.memory_mb} MB of memory)"
        end = last_lines("".join(self._lines))
        return UserFault("build_failed", f"{error}\n{end}" if end else error)


async def _awaited(waiting: Awaitable[None]) -> None:
    await waiting


def _build_fault(error: APIError) -> Fault:
    """An error of the engine before the first step: the Dockerfile's, or the engine's own."""
    text = str(error.explanation or error)
    if error.status_code == 400 or "dockerfile" in text.lower():
        return UserFault("build_failed", text)
    return daemons.fault(error)


def _pull_fault(base: str, text: str) -> Fault:
    """The registry said no: the user's. It could not be asked: ours."""
    low = text.lower()
    said_no = ("not found", "manifest unknown", "denied", "unauthorized", "invalid reference")
    if any(word in low for word in said_no) and "lookup" not in low and "dial" not in low:
        return UserFault("build_failed", f"the base image {base} cannot be had: {text}")
    if "no space left on device" in low:
        return SystemFault("disk_full", f"the disk of the runner is full: {text}")
    return SystemFault(
        "registry_unreachable", f"the base image {base} cannot be pulled at present: {text}"
    )
