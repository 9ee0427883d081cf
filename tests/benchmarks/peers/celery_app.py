"""The peer: Celery on the same broker and database, as durable as qslice."""

import os
import time

from celery import Celery

app = Celery(
    "peer",
    broker=os.environ["PEER_AMQP_URL"],
    backend="db+" + os.environ["PEER_DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:"),
)
app.conf.update(
    task_acks_late=True,
    task_default_queue="peer",
    task_default_queue_type="quorum",
    task_default_exchange_type="topic",
    task_track_started=True,
    broker_transport_options={"confirm_publish": True},
    worker_prefetch_multiplier=20,
    worker_hijack_root_logger=False,
    database_create_tables_at_setup=True,
)


@app.task(name="peer.noop")  # type: ignore[untyped-decorator]
def noop() -> None:
    """Nothing."""


@app.task(name="peer.stamp")  # type: ignore[untyped-decorator]
def stamp(sent: float) -> float:
    """Seconds from the sender's clock to the start of this line; both run on one machine."""
    return time.time() - sent
