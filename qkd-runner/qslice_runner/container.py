"""One container: made, attached to, given tasks one after the other, removed.

Standard input and the outputs go over one connection to the engine, which the event loop reads;
threads are only used for the engine's short calls.
"""

import asyncio
import contextlib
import os
import re
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import docker
import structlog
from docker.errors import APIError, NotFound
from qslice.faults import Fault, SystemFault, UserFault
from qslice.messages.result import MAX_RESULT
from qslice.messages.run import Limits

from qslice_runner import daemon as daemons
from qslice_runner import lockdown
from qslice_runner.daemon import Daemon
from qslice_runner.engine import Image, ImageGone
from qslice_runner.init import protocol
from qslice_runner.init.protocol import Report

log = structlog.get_logger(__name__)

#: Takes output as it comes.
Sink = Callable[[Literal["stdout", "stderr"], bytes], Awaitable[None]]
_HEADER = struct.Struct(">BxxxL")
_PORTION = 64 * 1024
#: Reasons of the runtime that lie in how the image is made: its folders, volumes, files.
_OF_THE_IMAGE = re.compile(r"not a directory|chdir to cwd|cannot be mounted|rootfs|is not a dir")


class Gone(Exception):
    """The container ended without a report."""


class InitMissing(Exception):
    """The volume with the first process is empty or gone."""


@dataclass(frozen=True)
class Plan:
    """What a container is made from."""

    name: str
    image: Image
    user: str
    #: See `lockdown.host_config`.
    as_volumes: bool
    limits: Limits
    network: str
    init_volume: str
    labels: Mapping[str, str]

    @property
    def volumes(self) -> dict[str, str]:
        """Made with it, by the folders that the image declares as volumes."""
        return lockdown.data_volumes(self.name, self.image.volumes)


class Container:
    """A running container, whose first process waits for a task."""

    def __init__(
        self,
        daemon: Daemon,
        plan: Plan,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._daemon = daemon
        self.plan = plan
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, daemon: Daemon, plan: Plan) -> "Container":
        """Make and start it. Raises a fault, `ImageGone` or `InitMissing`.

        Whatever happens, it is the caller's to call `remove` with the plan's name.
        """
        connections: list[socket.socket] = []
        try:
            await daemon.call(lambda client: connections.append(_start(client, plan)))
            streams = await asyncio.open_connection(sock=connections[0])
        except BaseException as error:
            for connection in connections:
                connection.close()
            if isinstance(error, APIError):
                raise _judge(error, plan) from None
            raise
        return cls(daemon, plan, *streams)

    @property
    def is_alive(self) -> bool:
        """Whether the connection stands, as far as is known."""
        return not (self._reader.at_eof() or self._reader.exception() or self._writer.is_closing())

    async def execute(
        self, command: tuple[str, ...], env: Mapping[str, str], sink: Sink, *, once: bool
    ) -> Report:
        """Run one command to its end; raises `Gone`. With `once` the container ends with it."""
        mark = b"\0" + secrets.token_bytes(protocol.MARK - 1)
        reader = protocol.Reader(mark)
        try:
            self._writer.write(
                protocol.encode(mark, command, env, once=once, max_result=MAX_RESULT)
            )
            await self._writer.drain()
            while reader.report is None:
                kind, size = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
                while size > 0:
                    data = await self._reader.read(min(size, _PORTION))
                    if not data:
                        raise Gone
                    size -= len(data)
                    shown = reader.stderr(data) if kind == 2 else reader.stdout(data)
                    if shown:
                        await sink("stderr" if kind == 2 else "stdout", shown)
        except (asyncio.IncompleteReadError, ConnectionError, OSError):
            raise Gone from None
        return reader.report

    def disconnect(self) -> None:
        """Close the connection: the first process kills all and ends."""
        self._writer.close()

    async def explain_end(self) -> Fault:
        """Why it ended without a report."""
        try:
            state = await self._daemon.call(
                lambda client: client.inspect_container(self.plan.name)["State"]
            )
        except NotFound:
            return SystemFault("docker_unavailable", "the container was removed from outside")
        except APIError as error:
            return daemons.fault(error)
        if state.get("OOMKilled"):
            return out_of_memory(self.plan.limits)
        return SystemFault(
            "docker_unavailable",
            f"the container was ended from outside (exit code {state.get('ExitCode')})",
        )


async def remove(daemon: Daemon, plan: Plan) -> None:
    """Kill and remove it, with its volumes; it is gone when this returns. Raises a fault."""
    await remove_named(daemon, plan.name)
    for volume in plan.volumes.values():
        with contextlib.suppress(APIError):
            await daemon.call(partial(_remove_volume, name=volume))


def _remove_volume(client: Any, name: str) -> None:
    client.remove_volume(name)


async def remove_named(daemon: Daemon, name: str) -> None:
    """Kill and remove a container by its name or identifier."""
    try:
        await daemon.call(partial(_remove, name=name))
    except APIError as error:
        raise daemons.fault(error) from None


def _remove(client: Any, name: str) -> None:
    try:
        client.remove_container(name, v=True, force=True)
    except NotFound:
        return
    except APIError as error:
        if error.status_code != 409:
            raise
        # Another removal is under way.
        with contextlib.suppress(NotFound):
            client.wait(name, condition="removed", timeout=60)


def out_of_memory(limits: Limits) -> UserFault:
    return UserFault(
        "out_of_memory",
        f"the command needed more than {limits.memory_mb} MB of memory and was killed; raise "
        "limits.memory_mb (files in /output and /tmp count as memory)",
    )


def _start(client: docker.APIClient, plan: Plan) -> socket.socket:
    """Create, attach, start: three calls. The connection is ours alone afterwards."""
    config = lockdown.host_config(
        plan.limits,
        network=plan.network,
        init_volume=plan.init_volume,
        volumes=plan.volumes,
        as_volumes=plan.as_volumes,
        labels=plan.labels,
    )
    arguments: dict[str, Any] = {
        "image": plan.image.id,
        "name": plan.name,
        "entrypoint": [lockdown.INIT],
        "command": [],
        "user": plan.user,
        "stdin_open": True,
        "tty": False,
        "labels": dict(plan.labels),
        "healthcheck": {"test": ["NONE"]},
        "use_config_proxy": False,
        "host_config": client.create_host_config(**config),
    }
    try:
        client.create_container(**arguments)
    except APIError as error:
        if error.status_code != 409 or "already in use" not in str(error.explanation):
            raise
        # Left by a runner that was killed while it had this very attempt.
        _remove(client, plan.name)
        client.create_container(**arguments)
    attached = client.attach_socket(
        plan.name, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
    )
    try:
        connection = socket.socket(fileno=os.dup(attached.fileno()))
    finally:
        # The SDK would close the connection with the response that it keeps there.
        attached._response.close()
    try:
        client.start(plan.name)
    except BaseException:
        connection.close()
        raise
    connection.setblocking(False)
    return connection


def _judge(error: APIError, plan: Plan) -> Exception:
    """What the engine's refusal to start a container means."""
    text = str(error.explanation or error)
    low = text.lower()
    if "no such image" in low:
        return ImageGone()
    if lockdown.INIT in text and "no such file" in low:
        return InitMissing()
    if "unable to find user" in low or "unable to find group" in low:
        return UserFault(
            "build_failed", f"the Dockerfile's USER {plan.image.user!r} is not in the image"
        )
    if "oom-killed" in low or "out of memory" in low or "minimum memory limit" in low:
        return out_of_memory(plan.limits)
    if error.status_code == 400 or ("oci runtime" in low and _OF_THE_IMAGE.search(low)):
        return UserFault("build_failed", f"the image cannot be started: {text}")
    return daemons.fault(error)
