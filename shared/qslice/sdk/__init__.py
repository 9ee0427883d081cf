"""The SDK for lab scripts: `Client` over REST, `Lab` over RabbitMQ, helpers for git and Docker."""

from qslice.messages.base import Rejected
from qslice.messages.result import Result
from qslice.messages.run import Limits, Run
from qslice.sdk.batch import Batch
from qslice.sdk.client import Client
from qslice.sdk.errors import ApiError, BrokerError, QsliceError, Unconfigured, Unreachable
from qslice.sdk.lab import Lab, Sweep
from qslice.sdk.results import Journal

__all__ = [
    "ApiError",
    "Batch",
    "BrokerError",
    "Client",
    "Journal",
    "Lab",
    "Limits",
    "QsliceError",
    "Rejected",
    "Result",
    "Run",
    "Sweep",
    "Unconfigured",
    "Unreachable",
]
