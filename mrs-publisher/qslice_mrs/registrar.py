"""One object of the registry for one thing of ours, whatever was tried before."""

import re
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import structlog

from qslice_mrs.client import READ_ONLY, TYPE
from qslice_mrs.errors import Refused, Unavailable
from qslice_mrs.finder import Finder, Searches

log = structlog.get_logger()

_REVISION = re.compile(r"^(\d{1,9})(\.\d+)?$")


class Objects(Searches, Protocol):
    """The client, as it is used here."""

    async def create(self, document: dict[str, Any]) -> int: ...

    async def replace(self, internal_id: int, document: dict[str, Any]) -> None: ...

    async def delete(self, internal_id: int) -> None: ...


@dataclass(frozen=True)
class Registered:
    internal_id: int
    action: Literal["created", "updated", "unchanged"]


def revision_of(document: dict[str, Any]) -> int:
    """The revision in an object's `version` ("3.0" → 3); 0 where it is none of ours."""
    found = _REVISION.match(str(document.get("version") or ""))
    return int(found[1]) if found else 0


def merged(existing: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """The complete object for an update: what is there, and over it what we say.

    Its type and its identifier stay: the first cannot change, the second may be the server's.
    """
    kept = {key: value for key, value in existing.items() if key not in READ_ONLY}
    fixed = {key: kept[key] for key in (TYPE, "resourceType", "identifier") if kept.get(key)}
    return kept | ours | fixed


class Registrar:
    """Looks before it creates, and removes what a lost request made twice."""

    def __init__(self, client: Objects, finder: Finder) -> None:
        self._client = client
        self._finder = finder

    async def register(
        self, identifier: str, revision: int, document: dict[str, Any]
    ) -> Registered:
        """See to it that there is one object, of this revision or a newer one.

        Raises `Refused`, `Unavailable`.
        """
        found = await self._finder.find(identifier)
        if not found:
            created = await self._client.create(document)
            await self._noted(identifier, created)
            return Registered(created, "created")
        existing = await self._only_one(identifier, found)
        internal_id = int(existing["internalIdentifier"])
        await self._noted(identifier, internal_id)
        if revision_of(existing) >= revision:
            return Registered(internal_id, "unchanged")
        await self._client.replace(internal_id, merged(existing, document))
        return Registered(internal_id, "updated")

    async def settle(self, identifier: str) -> Registered | None:
        """Look once more when lost requests have taken effect; the one object there is.

        None where there is none: somebody removed it since.
        """
        found = await self._finder.find(identifier)
        if not found:
            return None
        return Registered(
            found[0]
            if len(found) == 1
            else int((await self._only_one(identifier, found))["internalIdentifier"]),
            "unchanged",
        )

    async def _only_one(self, identifier: str, found: list[int]) -> dict[str, Any]:
        """The newest object, of equals the first made; the others are removed."""
        objects = [whole for number in found if (whole := await self._client.get(number))]
        if not objects:
            raise Unavailable(
                "mrs_unavailable", f"the registry finds {identifier} and does not have it"
            )
        objects.sort(key=lambda whole: (-revision_of(whole), int(whole["internalIdentifier"])))
        for extra in objects[1:]:
            number = int(extra["internalIdentifier"])
            log.warning(
                "an object was stored twice; one is removed",
                identifier=identifier,
                internal_id=number,
            )
            try:
                await self._client.delete(number)
            except Refused as refused:
                log.error(
                    "the registry keeps a second object",
                    identifier=identifier,
                    internal_id=number,
                    answer=refused.message,
                )
        return objects[0]

    async def _noted(self, identifier: str, internal_id: int) -> None:
        try:
            await self._finder.exists(identifier, internal_id)
        except (Refused, Unavailable) as failed:
            log.debug("the server was not proven", why=failed.message)
