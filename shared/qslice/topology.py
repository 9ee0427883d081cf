"""The exchanges, queues and bindings of qslice as data; `declare` and `pika` users apply them."""

from dataclasses import dataclass, field
from typing import Any

from qslice import names

#: Deliveries after which RabbitMQ gives a message up (3.10 has no limit of its own).
DELIVERY_LIMIT = 20
#: What a Done or Dead queue keeps where nobody reads it; the database has all of it.
MAX_UNREAD_BYTES = 512 * 1024 * 1024
UNREAD_MS = 14 * 24 * 3600 * 1000
#: How often a result may go back to Done, from a script that waits for others, or to the ledger's
#: queues, when a ledger ends: as good as always. RabbitMQ 4 drops after 20 where nothing is said.
NO_DELIVERY_LIMIT = 1_000_000


@dataclass(frozen=True)
class Exchange:
    name: str
    type: str


@dataclass(frozen=True)
class Binding:
    exchange: str
    key: str


@dataclass(frozen=True)
class Queue:
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    bindings: tuple[Binding, ...] = ()


EXCHANGES = (
    Exchange(names.EXCHANGE_TODO, "topic"),
    Exchange(names.EXCHANGE_EVENTS, "topic"),
    Exchange(names.EXCHANGE_DONE, "topic"),
    Exchange(names.EXCHANGE_CONTROL, "fanout"),
    Exchange(names.EXCHANGE_DEAD, "topic"),
)


def _kept(dead_exchange: str, dead_key: str) -> dict[str, Any]:
    """A queue that loses nothing: at its delivery limit a message goes to Dead, at least once."""
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": dead_exchange,
        "x-dead-letter-routing-key": dead_key,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def _mailbox() -> dict[str, Any]:
    """A queue for people who may never come to read it."""
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": NO_DELIVERY_LIMIT,
        "x-max-length-bytes": MAX_UNREAD_BYTES,
        "x-message-ttl": UNREAD_MS,
        "x-overflow": "drop-head",
    }


def _ledgers() -> dict[str, Any]:
    """A queue of the ledger's, which drops nothing however often a ledger dies over it."""
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": NO_DELIVERY_LIMIT,
        "x-overflow": "reject-publish",
    }


#: The system's own queues.
QUEUES = (
    #: Requests are asked again by who gets no answer: they need not survive the broker.
    Queue(names.QUEUE_RPC, {"x-queue-type": "classic", "x-message-ttl": 60_000}),
    Queue(names.QUEUE_EVENTS, _ledgers(), (Binding(names.EXCHANGE_EVENTS, "#"),)),
    Queue(names.QUEUE_DONE, _ledgers(), (Binding(names.EXCHANGE_DONE, "#"),)),
    Queue(names.QUEUE_DEAD, _ledgers(), (Binding(names.EXCHANGE_DEAD, "#"),)),
    #: One publisher at a time: two could both find an object missing and both make it.
    Queue(
        names.QUEUE_MRS,
        {**_kept("", names.QUEUE_MRS_DEAD), "x-single-active-consumer": True},
        (Binding(names.EXCHANGE_EVENTS, "*.*.completion"),),
    ),
    Queue(names.QUEUE_MRS_DEAD, _mailbox()),
)


def project_queues(project: str) -> tuple[Queue, ...]:
    """The queues of one project."""
    dead = names.dead(project)
    todo = tuple(
        Queue(
            names.todo(project, kind),
            _kept(names.EXCHANGE_DEAD, dead),
            (Binding(names.EXCHANGE_TODO, names.todo(project, kind)),),
        )
        for kind in names.KINDS
    )
    return (
        *todo,
        Queue(
            names.done(project),
            _mailbox(),
            (Binding(names.EXCHANGE_DONE, f"{project}.#"),),
        ),
        Queue(dead, _mailbox(), (Binding(names.EXCHANGE_DEAD, dead),)),
    )


async def declare(channel: Any, project: str | None = None) -> None:
    """Declare the system's part, or one project's; idempotent. The channel: `qslice.amqp`'s."""
    if project is None:
        for exchange in EXCHANGES:
            await channel.declare_exchange(exchange.name, exchange.type, durable=True)
    for queue in QUEUES if project is None else project_queues(project):
        declared = await channel.declare_queue(queue.name, durable=True, arguments=queue.arguments)
        for binding in queue.bindings:
            await declared.bind(binding.exchange, binding.key)


def declare_blocking(channel: Any, project: str | None = None) -> None:
    """The same on a pika channel."""
    if project is None:
        for exchange in EXCHANGES:
            channel.exchange_declare(exchange.name, exchange.type, durable=True)
    for queue in QUEUES if project is None else project_queues(project):
        channel.queue_declare(queue.name, durable=True, arguments=queue.arguments)
        for binding in queue.bindings:
            channel.queue_bind(queue.name, binding.exchange, binding.key)


@dataclass(frozen=True)
class Permissions:
    """Regular expressions of what a RabbitMQ user may do."""

    configure: str
    write: str
    read: str
    #: Topic permission on `qslice.todo`.
    topic_write: str


def lab_permissions(project: str) -> Permissions:
    """A lab script writes its project's routing keys and reads its Done and Dead, no more."""
    return Permissions(
        configure="^$",
        write=r"^qslice\.todo$",
        read=rf"^{project}\.(Done|Dead)$",
        topic_write=rf"^{project}\.ToDo(\.openstack|\.k8s)?$",
    )
