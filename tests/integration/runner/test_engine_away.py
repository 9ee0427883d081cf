"""The engine goes away, or was never there: our fault, told as such, and nothing is left over."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from docker import DockerClient
from qslice.faults import SystemFault
from qslice_runner.handler import RunHandler

from tests.integration.runner.conftest import Lab, containers_of
from tests.support.platform import Platform
from tests.support.wait import wait_for_async

#: The SDK leaves a socket that could not connect to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _collect_the_sdks_sockets() -> Iterator[None]:
    """Here, where it is no failure, and not in some test that follows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


class SocketProxy:
    """Passes bytes between a Unix socket of its own and the engine's, until it is cut."""

    def __init__(self, path: Path, target: str) -> None:
        self.url = f"unix://{path}"
        self._path = path
        self._target = target
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()
        self.is_cut = False

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def cut(self) -> None:
        """Break all connections and take no new ones."""
        self.is_cut = True
        for task in list(self._passing):
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def close(self) -> None:
        await self.cut()
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._pass(reader, writer))
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.transport.abort()
            return
        there, back = await asyncio.open_unix_connection(self._target)
        try:
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        finally:
            writer.transport.abort()
            back.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


@pytest.fixture
async def proxy(platform: Platform, tmp_path: Path) -> AsyncIterator[SocketProxy]:
    made = SocketProxy(tmp_path / "docker.sock", urlsplit(platform.docker_host).path)
    await made.open()
    yield made
    await made.close()


async def test_a_runner_does_not_start_without_an_engine(lab: Lab, tmp_path: Path) -> None:
    handler = RunHandler(lab.settings(docker_host=f"unix://{tmp_path}/none.sock"))
    for _ in range(2):
        with pytest.raises(SystemFault) as fault:
            await handler.start()
        assert fault.value.code == "docker_unavailable"
    await handler.stop()


async def test_an_engine_behind_another_transport_is_refused_in_words(lab: Lab) -> None:
    handler = RunHandler(lab.settings(docker_host="ssh://host"))
    with pytest.raises(SystemFault, match="tunnel"):
        await handler.start()
    await handler.stop()


async def test_an_engine_that_goes_away_under_a_command_is_our_fault(
    own_lab: Lab, proxy: SocketProxy, docker_client: DockerClient
) -> None:
    runner = await own_lab.runner(docker_host=proxy.url)
    await runner.run("true")
    job = runner.job("sleep", "1000")
    running = asyncio.create_task(runner.handler.run(job))
    await asyncio.wait_for(job.begun.wait(), 60)
    await proxy.cut()
    with pytest.raises(SystemFault) as fault:
        await running
    assert fault.value.code == "docker_unavailable"
    with pytest.raises(SystemFault) as fault:
        await runner.run("true")
    assert fault.value.code == "docker_unavailable"
    # It is back: the next sweep removes what could not be removed, and work goes on.
    proxy.is_cut = False
    await runner.handler.sweep(nobody_asks)
    await wait_for_async(
        lambda: containers_of(docker_client, own_lab) == [], what="no container left"
    )
    assert (await runner.run("echo", "on")).stdout == "on\n"


async def nobody_asks(job_ids: list[str]) -> set[str]:
    raise AssertionError("the runner's locks tell who lives")
