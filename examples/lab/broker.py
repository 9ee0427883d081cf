"""What a lab script does with RabbitMQ: hand in tasks, and read their results. Plain pika.

It uses the project's own RabbitMQ user, which may write its project's routing keys on the
exchange `qslice.todo` and read its queues `<project>.Done` and `<project>.Dead`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Generator, Mapping
from typing import Any, Self

import pika
from pika.exceptions import (
    AMQPConnectionError,
    AMQPError,
    ChannelClosedByBroker,
    NackError,
    UnroutableError,
)

Result = dict[str, Any]
#: How often a reader looks at the clock while nothing comes, in seconds.
_TICK_S = 0.5


class LabError(Exception):
    """Something that the person at the lab has to know, in words for that person."""


def setting(name: str) -> str:
    """Return an environment variable; raises LabError where it is missing."""
    value = os.environ.get(name)
    if not value:
        raise LabError(f"{name} is not set: run `. .run/env` (written by `make demo`) first")
    return value


class ProjectQueues:
    """The queues of one project, as a context manager. Failures are raised as LabError."""

    def __init__(self, amqp_url: str, project: str) -> None:
        self.project = project
        self._url = amqp_url

    @classmethod
    def from_environment(cls) -> Self:
        """The project and the user that `QSLICE_PROJECT` and `QSLICE_AMQP_URL` name."""
        return cls(setting("QSLICE_AMQP_URL"), setting("QSLICE_PROJECT"))

    def __enter__(self) -> Self:
        try:
            self._connection = pika.BlockingConnection(pika.URLParameters(self._url))
            self._channel = self._connection.channel()
            # From here on a publish returns when the broker has the message on disk.
            self._channel.confirm_delivery()
        except AMQPError as error:
            raise LabError(
                "cannot connect to RabbitMQ with QSLICE_AMQP_URL: "
                f"{type(error).__name__} {error}".rstrip()
            ) from error
        except (ValueError, OSError) as error:
            raise LabError(f"QSLICE_AMQP_URL cannot be used: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        # Results of others that were read on the way go back to Done here, unacknowledged.
        if self._connection.is_open:
            self._connection.close()

    def submit(self, task: Mapping[str, Any]) -> None:
        """Put one task on `<project>.ToDo`; returns once the broker is sure to have it."""
        key = f"{self.project}.ToDo"
        properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
        try:
            # mandatory: a task that no queue takes comes back as an error, and is not dropped.
            self._channel.basic_publish(
                "qslice.todo", key, json.dumps(task).encode(), properties, mandatory=True
            )
        except UnroutableError as error:
            raise LabError(f"there is no queue {key}: does the project exist?") from error
        except NackError as error:
            raise LabError(f"RabbitMQ refused the task: is {key} full?") from error
        except ChannelClosedByBroker as error:
            raise LabError(f"RabbitMQ refused the task: {error.reply_text}") from error
        except AMQPConnectionError as error:
            raise _lost(error) from error

    def results(
        self, ids: Collection[str], silence_s: float = 600.0
    ) -> Generator[Result, None, None]:
        """Yield the result of each task in `ids`, in the order in which they finish.

        Done delivers at least once: a job that came already (`job_id`) is dropped. A result is
        acknowledged when the next one is asked for, so one whose handling crashed comes again.
        Raises LabError when none of them came for `silence_s` seconds.
        """
        waiting = set(ids)
        jobs_seen: set[str] = set()
        heard = time.monotonic()
        try:
            for method, _, body in self._channel.consume(
                f"{self.project}.Done", inactivity_timeout=_TICK_S
            ):
                if not waiting:
                    return
                if method is None or (result := json.loads(body)).get("id") not in ids:
                    if time.monotonic() - heard > silence_s:
                        raise LabError(_silence(self.project, waiting, silence_s))
                    continue
                if result["job_id"] not in jobs_seen:
                    jobs_seen.add(result["job_id"])
                    waiting.discard(result["id"])
                    yield result
                self._channel.basic_ack(method.delivery_tag)
                heard = time.monotonic()
                if not waiting:
                    return
        except ChannelClosedByBroker as error:
            raise LabError(f"cannot read {self.project}.Done: {error.reply_text}") from error
        except AMQPConnectionError as error:
            raise _lost(error) from error
        finally:
            if self._channel.is_open:
                self._channel.cancel()


def _lost(error: AMQPError) -> LabError:
    return LabError(
        f"the connection to RabbitMQ was lost ({type(error).__name__}). Nothing is run twice when "
        "the same tasks, with the same ids, are handed in again: finished ones send their result"
    )


def _silence(project: str, waiting: Collection[str], silence_s: float) -> str:
    some = ", ".join(sorted(waiting)[:5]) + (", ..." if len(waiting) > 5 else "")
    return (
        f"no result for {silence_s:g} s; still open: {len(waiting)} ({some}). Does a runner work "
        f"for {project}? Tasks that nobody could read lie in {project}.Dead"
    )
