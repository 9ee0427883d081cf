"""Which objects the registry has of an identifier: look-ups that wait share one search.

Whatever is under way while a search runs goes into the next one, so that looking first costs a
fraction of a request per object. A server that does not understand a query of several terms
would find nothing and so make us create everything twice: until it has proven, with two objects
that are known to be there, that it does, each look-up is a search of its own.
"""

import asyncio
from collections import deque
from typing import Any, Protocol
from urllib.parse import quote

from qslice_mrs.client import Page

#: Characters of an encoded query; servers take 8 KiB for the whole request line.
_MAX_QUERY = 5000
#: Objects that are known to be there, by which the server is proven.
_KNOWN = 2
#: How often it may fail to prove itself.
_TRIALS = 5


class Searches(Protocol):
    """The part of the client that is needed here."""

    async def search(self, query: str, page: int = 0, size: int = 100) -> Page: ...

    async def get(self, internal_id: int) -> dict[str, Any] | None: ...


def query_for(identifiers: list[str]) -> str:
    """A Lucene query for objects that carry one of the identifiers, as such or as a keyword.

    A keyword, since some builds replace the identifier by one of their own.
    """
    texts = " OR ".join('"{}"'.format(text.replace('"', "")) for text in identifiers)
    texts = texts if len(identifiers) == 1 else f"({texts})"
    return f"identifier:{texts} OR keywords:{texts}"


class Finder:
    """Answers `find` by as few searches as possible."""

    def __init__(self, client: Searches, batch: int) -> None:
        self._client = client
        self._batch = batch
        self._waiting: dict[str, asyncio.Future[list[int]]] = {}
        self._running = False
        self._tasks: set[asyncio.Task[None]] = set()
        #: Whether the server answered a query of several terms as it should.
        self.proven = False
        self._known: deque[tuple[str, int]] = deque(maxlen=_KNOWN)
        self._proving = False
        self._trials = _TRIALS

    async def find(self, identifier: str) -> list[int]:
        """The internal ids of all objects of an identifier, in the order of their making.

        Raises what the client raises.
        """
        if not self.proven:
            found = await self._search([identifier])
            return found.get(identifier, [])
        future = self._waiting.get(identifier)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            self._waiting[identifier] = future
            if not self._running:
                self._running = True
                task = asyncio.create_task(self._run())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(future)

    async def exists(self, identifier: str, internal_id: int) -> None:
        """Take note of an object that is there, and prove the server by two of them, once."""
        if self.proven or self._proving or not self._trials:
            return
        if all(known != identifier for known, _ in self._known):
            self._known.append((identifier, internal_id))
        if len(self._known) < _KNOWN:
            return
        self._proving = True
        self._trials -= 1
        try:
            found = await self._search([known for known, _ in self._known])
            self.proven = all(number in found.get(known, []) for known, number in self._known)
        finally:
            self._proving = False
            self._known.clear()

    async def _run(self) -> None:
        """Search for all that waits, until nothing does."""
        try:
            while self._waiting:
                chosen: list[str] = []
                length = 0
                for identifier in list(self._waiting)[: self._batch]:
                    length += 2 * (len(quote(identifier)) + 14)
                    if chosen and length > _MAX_QUERY:
                        break
                    chosen.append(identifier)
                futures = {identifier: self._waiting.pop(identifier) for identifier in chosen}
                await self._answer(futures)
        finally:
            self._running = False

    async def _answer(self, futures: dict[str, asyncio.Future[list[int]]]) -> None:
        try:
            found = await self._search(list(futures))
        except Exception as wrong:
            for future in futures.values():
                if not future.done():
                    future.set_exception(wrong)
                    future.exception()  # Whoever asked may be gone; it is not lost on us.
            return
        for identifier, future in futures.items():
            if not future.done():
                future.set_result(found.get(identifier, []))

    async def _search(self, identifiers: list[str]) -> dict[str, list[int]]:
        sought = set(identifiers)
        found: dict[str, list[int]] = {}
        query, page, seen = query_for(identifiers), 0, 0
        while True:
            answer = await self._client.search(query, page)
            for item in answer.items:
                for match in await self._matches(item.internal_id, item.identifier, sought):
                    found.setdefault(match, []).append(item.internal_id)
            page, seen = page + 1, seen + len(answer.items)
            if not answer.items or seen >= answer.total:
                break
        return {identifier: sorted(numbers) for identifier, numbers in found.items()}

    async def _matches(self, internal_id: int, identifier: str, sought: set[str]) -> set[str]:
        """Which of the sought an object is: by its identifier, else by its keywords."""
        if identifier in sought:
            return {identifier}
        whole = await self._client.get(internal_id)
        return sought & set((whole or {}).get("keywords") or ())
