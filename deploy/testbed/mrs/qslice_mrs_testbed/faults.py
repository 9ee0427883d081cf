"""What goes wrong on purpose: switches that tests and drills turn over the admin route."""

import threading
from dataclasses import asdict, dataclass, fields
from typing import Any

#: Which requests a fault strikes.
SCOPES = ("all", "write", "create", "update", "search", "read", "token")


@dataclass(frozen=True)
class Fault:
    """One switch. It strikes `times` requests of its scope (None: all), then turns itself off."""

    #: status: answer with it. stored: do the work, then never answer (the connection is closed
    #: after `delay_s`). late: close without an answer, do the work `delay_s` later. delay: wait,
    #: then work as ever. down: close every connection without an answer.
    kind: str
    scope: str = "all"
    times: int | None = None
    #: Requests let pass before the first that is struck.
    after: int = 0
    status: int = 503
    #: Seconds, in the answer's Retry-After.
    retry_after: int | None = None
    delay_s: float = 0.0
    body: str = ""

    KINDS = ("status", "stored", "late", "delay", "down")

    @classmethod
    def of(cls, value: dict[str, Any]) -> "Fault":
        """A fault from JSON; raises `ValueError` that names the field."""
        known = {entry.name for entry in fields(cls)}
        if unknown := set(value) - known:
            raise ValueError(f"unknown field {min(unknown)}")
        fault = cls(**value)
        if fault.kind not in cls.KINDS:
            raise ValueError(f"kind: one of {', '.join(cls.KINDS)}")
        if fault.scope not in SCOPES:
            raise ValueError(f"scope: one of {', '.join(SCOPES)}")
        return fault


class Faults:
    """The faults that are switched on, in the order in which they were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._on: list[list[Any]] = []  # [fault, seen, struck]

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._on.append([fault, 0, 0])

    def clear(self) -> None:
        with self._lock:
            self._on.clear()

    def list(self) -> list[dict[str, Any]]:
        with self._lock:
            return [
                asdict(fault) | {"seen": seen, "struck": struck} for fault, seen, struck in self._on
            ]

    def strike(self, scopes: set[str]) -> Fault | None:
        """The fault that meets a request of these scopes, counted."""
        with self._lock:
            for entry in self._on:
                fault = entry[0]
                if fault.scope not in scopes:
                    continue
                entry[1] += 1
                if entry[1] <= fault.after:
                    continue
                if fault.times is not None and entry[2] >= fault.times:
                    continue
                entry[2] += 1
                return fault  # type: ignore[no-any-return]
        return None


@dataclass
class Build:
    """How this build of the server behaves where builds differ."""

    #: An older build: a create answers 200 with the object instead of 201 with its id.
    create_answers_object: bool = False
    #: The server replaces `identifier` by one of its own; the creator's stays in the keywords.
    generates_identifier: bool = False
    #: An update holds the read-only properties as null (else: it must leave them out).
    read_only_null: bool = True
    #: Whether the advanced search understands more than one term.
    boolean_search: bool = True
    #: Seconds that a token lives.
    token_life_s: int = 300

    def set(self, value: dict[str, Any]) -> None:
        """Turn switches; raises `ValueError` for one that there is not."""
        for name, wanted in value.items():
            if name not in {entry.name for entry in fields(self)}:
                raise ValueError(f"unknown field {name}")
            setattr(self, name, type(getattr(self, name))(wanted))
