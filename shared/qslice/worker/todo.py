"""A message of a ToDo queue: read, or put aside on the project's Dead queue with the reason."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from qslice import names
from qslice.amqp import Cut, Nacked
from qslice.faults import Owner
from qslice.messages.base import Rejected
from qslice.messages.run import MAX_BODY
from qslice.worker.delivery import Delivery
from qslice.worker.handler import Task
from qslice.worker.publisher import Publisher, TooLarge
from qslice.worker.results import clean

log = structlog.get_logger(__name__)

#: Characters of a reason: headers must fit into one frame.
_MAX_REASON = 4000
#: Seconds until a message that Dead did not take is tried again.
_AGAIN_S = 0.5


class Poison(Exception):
    """A message that no worker can do."""

    def __init__(self, field: str, reason: str, owner: Owner = Owner.USER) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason
        self.owner = owner


@dataclass(frozen=True)
class Todo:
    """What the message asks for, and which attempt of which job it is."""

    task: Task
    #: None: a lab script put it there.
    job_id: str | None
    attempt: int


def read(headers: Mapping[str, Any], body: bytes, reader: Callable[[bytes], Task]) -> Todo:
    """What a message asks for, its body read by the handler. Raises `Poison`."""
    job_id, attempt = headers.get(names.HEADER_JOB), 0
    if job_id is not None:
        attempt = _attempt(job_id, headers.get(names.HEADER_ATTEMPT))
    if len(body) > MAX_BODY:
        raise Poison("", f"the message has {len(body)} bytes, at most {MAX_BODY} are read")
    try:
        task = reader(body)
    except Rejected as wrong:
        raise Poison(wrong.field, wrong.reason) from None
    except Exception as error:
        log.exception("a message broke its reader")
        raise Poison(
            "", f"the worker failed to read it ({type(error).__name__})", Owner.SYSTEM
        ) from None
    return Todo(task, job_id, attempt)


def _attempt(job_id: object, attempt: object) -> int:
    if not isinstance(job_id, str):
        raise Poison(names.HEADER_JOB, "this header must be a string")
    if not isinstance(attempt, int) or isinstance(attempt, bool) or not 0 < attempt < 2**31:
        raise Poison(names.HEADER_ATTEMPT, "this header must be a whole number from 1")
    return attempt


async def bury(publisher: Publisher, delivery: Delivery, poison: Poison) -> None:
    """Put the message on its project's Dead queue; returns when that is confirmed.

    Raises `Cut` at the end of the session that the message came by: it is delivered anew.
    """
    message = delivery.message
    headers = {
        names.HEADER_REASON: clean(str(poison))[:_MAX_REASON],
        names.HEADER_FIELD: clean(poison.field)[:200],
        names.HEADER_QUEUE: delivery.queue,
        names.HEADER_OWNER: poison.owner.value,
    }
    job_id = message.headers.get(names.HEADER_JOB)
    if isinstance(job_id, str):
        headers[names.HEADER_JOB] = job_id[:200]
    key, body = names.dead(delivery.project), message.body
    while True:
        try:
            return await publisher.publish(
                delivery.session, names.EXCHANGE_DEAD, key, body, headers=headers
            )
        except TooLarge as error:
            headers[names.HEADER_REASON] += f" ({error}: its body was left out)"
            body = b""
        except (Cut, Nacked):
            if delivery.session.is_lost:
                raise
            await asyncio.sleep(_AGAIN_S)
