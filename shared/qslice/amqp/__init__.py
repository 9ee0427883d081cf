"""AMQP for programs with an event loop: a thin layer of coroutines over pika's asyncio adapter.

pika handles a frame in one plain call where other clients use several tasks and futures; a
worker's share of a job is seven messages, so that counts (`docs/decisions/0006`). There is no
recovery here: when a connection ends, everything on it ends with `Cut`, and whoever needs another
one opens it.
"""

from qslice.amqp.channel import Channel, Declared
from qslice.amqp.connection import Connection
from qslice.amqp.corked import CorkedConnection
from qslice.amqp.errors import Cut, Nacked, Refused
from qslice.amqp.message import Message

__all__ = [
    "Channel",
    "Connection",
    "CorkedConnection",
    "Cut",
    "Declared",
    "Message",
    "Nacked",
    "Refused",
]
