"""From the queue to the registry: each completion until it is published, waits, or is given up.

A message is acknowledged only when its outcome is safe elsewhere: the report confirmed by the
broker, or the message itself confirmed on the queue where it waits or rests. Whatever dies in
between, the broker delivers it again, and the registry is searched before anything is created.
"""

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from typing import Any

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage
from qslice import faults, names
from qslice.messages.base import Rejected
from qslice.messages.completion import (
    REPORT,
    Completion,
    PublicationReport,
    PublicationState,
)

from qslice_mrs import metrics, retry
from qslice_mrs.errors import Refused, RegistryError, Unavailable
from qslice_mrs.lanes import Lanes
from qslice_mrs.payloads.build import document
from qslice_mrs.registrar import Registered, Registrar
from qslice_mrs.settings import MrsSettings

log = structlog.get_logger()

#: Longest time that a Retry-After of the registry holds up everything, in seconds.
_MAX_PAUSE_S = 60.0
_MAX_REASON = 4000
#: Seconds before a message goes back that the broker would not let go on.
_PUT_BACK_S = 1.0


class Publisher:
    """Handles deliveries of one channel; `take` is the consumer's callback."""

    def __init__(
        self,
        settings: MrsSettings,
        registrar: Registrar,
        events: AbstractExchange,
        waits: AbstractChannel,
    ) -> None:
        """`waits` is a channel apart: a queue that does not confirm must not hold up the rest."""
        self._settings = settings
        self._registrar = registrar
        self._events = events
        self._waits = waits
        self._waiting = retry.Waiting(
            settings.mrs_retry_delays_s, settings.mrs_settle_s, settings.mrs_retry_limit
        )
        self._lanes = Lanes()
        self._under_way: set[asyncio.Task[None]] = set()
        #: Until then the registry wants to be left alone (monotonic).
        self._paused_until = 0.0

    async def declare(self) -> None:
        """Declare the queues where messages wait."""
        for name, arguments in self._waiting.queues():
            await self._waits.declare_queue(name, durable=True, arguments=arguments)

    async def take(self, message: AbstractIncomingMessage) -> None:
        """Handle one delivery to its end; a broken channel leaves it to the next session."""
        task = asyncio.create_task(self._handle(message))
        self._under_way.add(task)
        try:
            await task
        except (aio_pika.exceptions.AMQPError, ConnectionError) as failed:
            log.warning("the broker did not take what became of a completion", why=str(failed))
            await self._put_back(message)
        finally:
            self._under_way.discard(task)

    async def _put_back(self, message: AbstractIncomingMessage) -> None:
        with contextlib.suppress(aio_pika.exceptions.AMQPError, ConnectionError):
            await asyncio.sleep(_PUT_BACK_S)
            await message.nack(requeue=True)

    async def finish(self, grace_s: float) -> None:
        """Wait for what is under way, at most so long; then stop it."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=grace_s)
        self.abandon()

    def abandon(self) -> None:
        """Stop what is under way: its deliveries are somebody else's now."""
        for task in self._under_way:
            task.cancel()

    async def _handle(self, message: AbstractIncomingMessage) -> None:
        attempt = retry.Attempt.of(dict(message.headers), bool(message.redelivered))
        try:
            completion = Completion.read(message.body)
        except Rejected as wrong:
            log.warning("not a completion", field=wrong.field, reason=wrong.reason)
            await self._rest(message.body, attempt, f"not a completion: {wrong}", wrong.field)
            await message.ack()
            return
        if not completion.publish:
            await message.ack()
            return
        async with self._lanes.lane(completion.identifier):
            await self._pause()
            if attempt.settle:
                await self._settle(message, completion, attempt)
            else:
                await self._publish(message, completion, attempt)
        await message.ack()

    async def _publish(
        self, message: AbstractIncomingMessage, completion: Completion, attempt: retry.Attempt
    ) -> None:
        tried = attempt.tried + 1
        try:
            made = document(completion, self._settings.mrs_related)
        except ValueError as wrong:
            await self._give_up(
                message.body,
                completion,
                tried,
                faults.SystemFault("mrs_payload", f"no digital object can be made of it: {wrong}"),
            )
            return
        try:
            registered = await self._registrar.register(
                completion.identifier, completion.revision, made
            )
        except Refused as refused:
            await self._give_up(message.body, completion, tried, refused)
        except Unavailable as failed:
            await self._later(message.body, completion, attempt, failed)
        except Exception as unforeseen:  # An error of ours must not take the others along.
            log.exception("a completion could not be handled", identifier=completion.identifier)
            ours = Unavailable("internal", f"the publisher failed: {unforeseen}", doubtful=True)
            await self._later(message.body, completion, attempt, ours)
        else:
            metrics.PUBLISHED.labels(registered.action).inc()
            metrics.DELAY.observe(max(0.0, (datetime.now(UTC) - completion.at).total_seconds()))
            await self._report(completion, PublicationState.PUBLISHED, tried, registered)
            if attempt.doubt:
                settle = retry.Attempt(tried=0, doubt=False, settle=True)
                await self._put(self._waiting.settling, message.body, settle.headers())

    async def _settle(
        self, message: AbstractIncomingMessage, completion: Completion, attempt: retry.Attempt
    ) -> None:
        """Look for a second object. What is published stays published whatever comes of it."""
        try:
            await self._registrar.settle(completion.identifier)
        except RegistryError as failed:
            tried = attempt.tried + 1
            if self._waiting.exhausted(tried):
                log.error("not settled", identifier=completion.identifier, why=failed.message)
                return
            again = retry.Attempt(tried=tried, doubt=False, settle=True)
            await self._put(self._waiting.after(tried), message.body, again.headers())

    async def _later(
        self, body: bytes, completion: Completion, attempt: retry.Attempt, failed: Unavailable
    ) -> None:
        tried = attempt.tried + 1
        wanted = failed.retry_after_s or 0.0
        self._paused_until = max(self._paused_until, time.monotonic() + min(wanted, _MAX_PAUSE_S))
        metrics.FAILED.labels(failed.code).inc()
        if self._waiting.exhausted(tried):
            await self._give_up(body, completion, tried, failed)
            return
        doubt = attempt.doubt or failed.doubtful
        queue = self._waiting.after(tried, wanted)
        if retry.worth_telling(tried):
            log.warning(
                "not published yet",
                identifier=completion.identifier,
                tried=tried,
                waits_in=queue,
                why=failed.message,
            )
            await self._report(completion, PublicationState.DELAYED, tried, failed=failed)
        await self._put(queue, body, retry.Attempt(tried, doubt).headers())

    async def _give_up(
        self, body: bytes, completion: Completion, tried: int, failed: faults.Fault
    ) -> None:
        log.error(
            "given up",
            identifier=completion.identifier,
            project=completion.project,
            tried=tried,
            why=failed.message,
        )
        metrics.GIVEN_UP.labels(failed.code).inc()
        await self._rest(body, retry.Attempt(tried), failed.message)
        await self._report(completion, PublicationState.FAILED, tried, failed=failed)

    async def _rest(
        self, body: bytes, attempt: retry.Attempt, reason: str, field: str = ""
    ) -> None:
        headers = attempt.headers() | {
            names.HEADER_REASON: reason[:_MAX_REASON],
            names.HEADER_QUEUE: names.QUEUE_MRS,
            names.HEADER_OWNER: faults.Owner.SYSTEM.value,
        }
        if field:
            headers[names.HEADER_FIELD] = field
        await self._put(names.QUEUE_MRS_DEAD, body, headers)

    async def _put(self, queue: str, body: bytes, headers: dict[str, Any]) -> None:
        await self._waits.default_exchange.publish(
            _message(body, headers), routing_key=queue, mandatory=True
        )

    async def _report(
        self,
        completion: Completion,
        state: PublicationState,
        tried: int,
        registered: Registered | None = None,
        failed: faults.Fault | None = None,
    ) -> None:
        number = registered.internal_id if registered else None
        report = PublicationReport(
            identifier=completion.identifier,
            revision=completion.revision,
            project=completion.project,
            state=state,
            internal_id=number,
            portal_url=self._settings.portal_page(number) if number is not None else None,
            action=registered.action if registered else None,
            error=failed.error if failed else None,
            attempts=tried,
            at=datetime.now(UTC),
        )
        await self._events.publish(
            _message(report.body(), {}),
            routing_key=names.event_key(completion.project, REPORT, state.value),
            mandatory=True,
        )

    async def _pause(self) -> None:
        await asyncio.sleep(max(0.0, self._paused_until - time.monotonic()))


def _message(body: bytes, headers: dict[str, Any]) -> aio_pika.Message:
    return aio_pika.Message(
        body,
        headers=headers,
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )
