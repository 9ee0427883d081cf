"""Exchanges and queues: declared at the start, with each new project, and where one is missing."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import structlog
from qslice import names, topology

from qslice_gateway.ledger.broker import Channel, Link, Refused
from qslice_gateway.store.pool import AsyncPool

_logger = structlog.get_logger(__name__)

_EXISTS = "SELECT 1 FROM projects WHERE name = %s AND deleted_at IS NULL"
_ALL = "SELECT name FROM projects WHERE deleted_at IS NULL ORDER BY name"


class Queues:
    """Declares and deletes on a channel of its own, which the broker may close."""

    def __init__(self, link: Link, pool: AsyncPool) -> None:
        self._link = link
        self._pool = pool
        self._channel: Channel | None = None

    async def declare(self, project: str | None = None) -> bool:
        """The system's part, or a project's. False where something of it exists in another form
        (of an older version); it is left as it is.
        """
        return await self._do(lambda channel: topology.declare(channel, project))

    async def declare_all(self) -> None:
        """Every project's."""
        async with self._pool.connection() as conn:
            rows = await (await conn.execute(_ALL)).fetchall()
        for row in rows:
            await self.declare(row["name"])

    async def prepare(self, control: dict[str, Any]) -> None:
        """What a control message asks of the broker, before workers hear it."""
        project = control.get("project")
        if not isinstance(project, str):
            return
        if control.get("op") == "project-created":
            await self.declare(project)
        elif control.get("op") == "project-deleted":
            for queue in names.queues(project):
                await self._do(partial(Channel.delete_queue, name=queue))

    async def restore(self, keys: set[str]) -> set[str]:
        """Declare the queues that messages came back from; the keys that have one now."""
        restored = set()
        for key in keys:
            try:
                project = names.project_of(key)
            except ValueError:
                continue
            async with self._pool.connection() as conn:
                exists = await (await conn.execute(_EXISTS, [project])).fetchone()
            if exists is not None and await self.declare(project):
                restored.add(key)
        return restored

    async def ready(self, project: str, kind: str) -> int:
        """Messages that wait on a project's queue, which is declared where it is missing."""
        queue = next(
            one for one in topology.project_queues(project) if one.name == names.todo(project, kind)
        )
        count = 0

        async def ask(channel: Channel) -> None:
            nonlocal count
            declared = await channel.declare_queue(
                queue.name, durable=True, arguments=queue.arguments
            )
            for binding in queue.bindings:
                await declared.bind(binding.exchange, binding.key)
            count = declared.ready

        return count if await self._do(ask) else -1

    async def _do(self, ask: Callable[[Channel], Awaitable[None]]) -> bool:
        if self._channel is None:
            self._channel = await self._link.channel(vital=False)
        try:
            await ask(self._channel)
        except Refused as reason:
            self._channel = None
            _logger.error("the broker refuses a declaration", reason=str(reason))
            return False
        return True
