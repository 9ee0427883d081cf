"""Removes what runners left that are gone: containers, volumes, scratch files, their locks.

Whether a runner lives is told by the lock that it holds for life, which the kernel frees when the
process is killed. That is surer than asking who owns the job: a container without its runner is of
no use to anybody, also while the job's lease still runs.
"""

import time
from collections.abc import Set
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from docker.errors import APIError

from qslice_runner import container, labels
from qslice_runner.daemon import Daemon
from qslice_runner.state import StateDir

log = structlog.get_logger(__name__)

#: Seconds after which a file that a compiler left is no longer being written.
_STALE_S = 600


class Sweeper:
    """What it removes has the labels of this host and this state folder, and is nobody else's."""

    def __init__(self, daemon: Daemon, state: StateDir, own: dict[str, str]) -> None:
        self._daemon = daemon
        self._state = state
        self._filters = labels.filters(own)

    async def sweep(self, names: Set[str], volume: str) -> None:
        """`names`: the containers that this process has now; `volume`: the one that it uses."""
        found: list[dict[str, Any]] = await self._daemon.call(
            lambda client: client.containers(all=True, filters=self._filters)
        )
        for each in found:
            name = each["Names"][0].lstrip("/")
            runner = each["Labels"].get(labels.RUNNER, "")
            # Asked again for each: a name is noted before its container is made.
            mine = runner == self._state.runner
            if name not in names and (mine or not (runner and self._state.lives(runner))):
                await container.remove_named(self._daemon, each["Id"])
                log.info("a container was left behind and is removed", container=name)
        for runner in self._state.dead_runners():
            log.info("a runner ended without cleaning up", runner=runner)
        await self._old_volumes(volume)
        self._old_files()

    async def _old_volumes(self, current: str) -> None:
        """Those of containers that are gone, and of another version of the first process."""
        found = await self._daemon.call(lambda client: client.volumes(filters=self._filters))
        for each in found["Volumes"] or []:
            if each["Name"] == current:
                continue
            name = each["Name"]
            try:
                await self._daemon.call(partial(_remove_volume, name=name))
            except APIError as error:
                log.debug("a volume stays", volume=name, reason=str(error))

    def _old_files(self) -> None:
        for path in self._state.path.glob("init-*.*"):
            _remove_stale(path)
        for path in self._state.scratch.iterdir():
            _remove_stale(path)


def _remove_volume(client: Any, name: str) -> None:
    client.remove_volume(name)


def _remove_stale(path: Path) -> None:
    try:
        if time.time() - path.stat().st_mtime > _STALE_S:
            path.unlink()
    except FileNotFoundError:
        return
