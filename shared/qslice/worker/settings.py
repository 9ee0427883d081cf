"""The settings of a worker; a service adds its own in a subclass."""

import secrets
import socket

from pydantic import Field

from qslice.settings import Settings


def unique_name() -> str:
    """A name that no other process has: the ledger tells workers apart by it."""
    host = socket.gethostname().split(".")[0][:40] or "worker"
    return f"{host}-{secrets.token_hex(4)}"


class WorkerSettings(Settings):
    worker_name: str = Field(
        default_factory=unique_name,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$",
        description="how the ledger knows this process; different for each, also after a restart",
    )
    slots: int = Field(4, ge=1, le=1000, description="jobs at the same time")
    lease_s: float = Field(
        20.0, ge=0.4, le=3600, description="seconds of silence after which its jobs are given away"
    )
    grace_s: float = Field(
        30.0, ge=0, le=86400, description="seconds that running jobs get to finish at a stop"
    )
    sweep_s: float = Field(
        300.0, ge=1, le=86400, description="seconds between two searches for what no job owns"
    )
    projects_s: float = Field(
        30.0, ge=0.1, le=3600, description="seconds between two looks at the list of projects"
    )
    metrics_listen: str | None = Field(
        None,
        pattern=r"^[^\s:]+:[0-9]{1,5}$",
        description="host:port of Prometheus metrics, without a login: keep it on loopback",
    )
