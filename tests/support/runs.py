"""A runner's handler without a broker: the job that it is given, and what it told of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from qslice import ids
from qslice.worker.handler import CancelReason, Stream


@dataclass
class RecordedJob:
    """A `qslice.worker.handler.Job` that keeps what the handler says."""

    request: Any
    project: str = "lab"
    kind: str = "run"
    attempt: int = 1
    producer_id: str | None = None
    batch_id: str | None = None
    submitted_at: datetime | None = field(default_factory=lambda: datetime.now(UTC))
    credentials: dict[str, Any] | None = None
    cancel_reason: CancelReason | None = None
    id: str = field(default_factory=lambda: ids.new(ids.JOB))
    logs: dict[str, str] = field(default_factory=dict)
    starts: list[dict[str, Any]] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def started(self, **data: Any) -> None:
        self.starts.append(data)
        self.begun.set()

    async def log(self, stream: Stream, text: str) -> None:
        self.logs[stream] = self.logs.get(stream, "") + text

    async def progress(self, fraction: float, text: str = "") -> None:
        raise AssertionError("the runner tells no progress")

    async def resource(self, **data: Any) -> None:
        raise AssertionError("the runner makes no resource")
