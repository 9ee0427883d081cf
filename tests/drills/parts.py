"""The parts of a drill: a whole system on a broker and a database of its own, each killable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg
from qslice_native.instance import Instance

from tests.support.processes import ServiceProcess
from tests.support.system import System

#: Seconds.
LEASE_S = 5.0
_WORKERS = 3
_SLOTS = 8


@dataclass
class Part:
    """Something that is killed and started again."""

    name: str
    kill: Callable[[], None]
    start: Callable[[], None]
    #: Whether it ended though nobody killed it.
    ended: Callable[[], str | None] = lambda: None
    #: Being killed or started now.
    away: bool = False
    #: Finished jobs when it came back: it is not killed again before there are more.
    finished: int = 0
    kills: int = 0


@dataclass
class _Service:
    """A process of ours, and the one in its place after it was killed."""

    begin: Callable[[], ServiceProcess]
    running: ServiceProcess = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.running = self.begin()

    def kill(self) -> None:
        self.running.kill_all()

    def ended(self) -> str | None:
        process = self.running
        if process.is_running:
            return None
        return f"{' '.join(process.command)} ended by itself ({process.exit_code}): {process.log}"


def start_all(system: System, instance: Instance) -> list[Part]:
    """Start our services; all parts, also the broker and the database, which run already."""
    begins: dict[str, Callable[[], ServiceProcess]] = {
        "gateway": system.gateway,
        "ledger 1": system.ledger,
        "ledger 2": system.ledger,
    }
    for number in range(1, _WORKERS + 1):
        begins[f"worker {number}"] = lambda: system.noop_worker(_SLOTS, LEASE_S)
    parts = []
    for name, begin in begins.items():
        service = _Service(begin)
        parts.append(Part(name, service.kill, service.start, service.ended))
    return [
        *parts,
        Part("broker", lambda: instance.rabbitmq.kill(), lambda: instance.rabbitmq.up()),
        Part("database", lambda: instance.postgres.kill(), lambda: instance.postgres.up()),
    ]


def count_finished(database_url: str) -> int | None:
    """Jobs that are over; None while the database is away."""
    try:
        with psycopg.connect(database_url, connect_timeout=2) as connection:
            row = connection.execute(
                "SELECT count(*) FROM jobs WHERE finished_at IS NOT NULL"
            ).fetchone()
    except psycopg.Error:
        return None
    return int(row[0]) if row else None
