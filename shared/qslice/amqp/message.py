"""A message as it comes."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came from a queue."""

    body: bytes
    headers: dict[str, Any]
    tag: int
    consumer_tag: str | None
    routing_key: str
    redelivered: bool
    message_id: str | None
    correlation_id: str | None
    reply_to: str | None


def message_of(method: Any, properties: Any, body: bytes, consumer_tag: str | None) -> Message:
    return Message(
        body,
        properties.headers or {},
        method.delivery_tag,
        consumer_tag,
        method.routing_key,
        method.redelivered,
        properties.message_id,
        properties.correlation_id,
        properties.reply_to,
    )
