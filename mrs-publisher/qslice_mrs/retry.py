"""When a completion is tried again, and where it waits: queues that give back what is due.

A message that waits is not held unacknowledged, so RabbitMQ's consumer timeout does not touch it,
a stop of the publisher does not lose its count, and its waiting holds up no other. Each delay has
a queue of its own, since RabbitMQ lets messages expire at the head of a queue only.
"""

from dataclasses import dataclass
from typing import Any

from qslice import names
from qslice.backoff import Backoff

#: How often a completion was tried.
HEADER_TRIED = "x-qslice-tried"
#: An earlier attempt may have stored the object, or may yet.
HEADER_DOUBT = "x-qslice-doubt"
#: It is published; look once more whether a lost request made a second object.
HEADER_SETTLE = "x-qslice-settle"


@dataclass(frozen=True)
class Attempt:
    """What the headers of a delivery say."""

    tried: int = 0
    doubt: bool = False
    settle: bool = False

    @classmethod
    def of(cls, headers: dict[str, Any], redelivered: bool) -> "Attempt":
        """A redelivered message was with a publisher that did not come to its end."""
        tried = headers.get(HEADER_TRIED, 0)
        return cls(
            tried if isinstance(tried, int) and tried >= 0 else 0,
            redelivered or bool(headers.get(HEADER_DOUBT, False)),
            bool(headers.get(HEADER_SETTLE, False)),
        )

    def headers(self) -> dict[str, Any]:
        """For the next delivery; RabbitMQ's own headers (x-death) must not come along."""
        return {HEADER_TRIED: self.tried, HEADER_DOUBT: self.doubt, HEADER_SETTLE: self.settle}


class Waiting:
    """The waits of one publisher."""

    def __init__(self, delays_s: list[float], settle_s: float, limit: int) -> None:
        self._delays_s = sorted(set(delays_s))
        self._settle_s = settle_s
        self._backoff = Backoff(base=self._delays_s[0], cap=self._delays_s[-1], limit=limit)

    def exhausted(self, tried: int) -> bool:
        return self._backoff.exhausted(tried)

    def after(self, tried: int, at_least_s: float = 0.0) -> str:
        """The queue to wait in after the n-th failure, for as long as the registry asked for."""
        wanted = max(self._backoff.ceiling(tried), at_least_s)
        fitting = [delay for delay in self._delays_s if delay >= wanted]
        return queue_of(fitting[0] if fitting else self._delays_s[-1])

    @property
    def settling(self) -> str:
        return queue_of(self._settle_s)

    def queues(self) -> list[tuple[str, dict[str, Any]]]:
        """Names and arguments of all queues to declare."""
        return [
            (
                queue_of(delay),
                {
                    "x-queue-type": "quorum",
                    "x-message-ttl": round(delay * 1000),
                    "x-dead-letter-exchange": "",
                    "x-dead-letter-routing-key": names.QUEUE_MRS,
                    "x-dead-letter-strategy": "at-least-once",
                    "x-overflow": "reject-publish",
                },
            )
            for delay in sorted({*self._delays_s, self._settle_s})
        ]


def queue_of(delay_s: float) -> str:
    """A queue is named by its delay: another setting is another queue, and both run dry."""
    return f"{names.QUEUE_MRS}.wait.{round(delay_s * 1000)}ms"


def worth_telling(tried: int) -> bool:
    """Whether the n-th failure is reported: the first, second, fourth, eighth, …"""
    return tried & (tried - 1) == 0
