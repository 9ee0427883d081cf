"""Containers that wait for the next task of their batch, each for a short while."""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


class Living(Protocol):
    @property
    def is_alive(self) -> bool: ...


C = TypeVar("C", bound=Living)


@dataclass
class _Idle(Generic[C]):
    key: Hashable
    container: C
    expiry: asyncio.TimerHandle = field(repr=False)


class WarmPool(Generic[C]):
    """At most `room` idle containers; the one that waited longest makes way."""

    def __init__(self, room: int, idle_s: float, remove: Callable[[C], None]) -> None:
        self._room = room
        self._idle_s = idle_s
        self._remove = remove
        self._waiting: deque[_Idle[C]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, key: Hashable) -> C | None:
        """An idle container of this key, the last used first; None where there is none."""
        for idle in reversed(list(self._waiting)):
            if not idle.container.is_alive:
                self._drop(idle)
            elif idle.key == key:
                self._waiting.remove(idle)
                idle.expiry.cancel()
                return idle.container
        return None

    def give(self, key: Hashable, container: C) -> None:
        """Keep a clean container for the next task."""
        idle: _Idle[C] = _Idle(
            key,
            container,
            asyncio.get_running_loop().call_later(self._idle_s, lambda: self._drop(idle)),
        )
        self._waiting.append(idle)
        if len(self._waiting) > self._room:
            self._drop(self._waiting[0])

    def clear(self) -> None:
        for idle in list(self._waiting):
            self._drop(idle)

    def _drop(self, idle: _Idle[C]) -> None:
        idle.expiry.cancel()
        self._waiting.remove(idle)
        self._remove(idle.container)
