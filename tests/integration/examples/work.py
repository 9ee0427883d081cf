"""A stand-in for the platform's workers: it answers a lab's tasks in this process."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pika
from bb84 import experiment
from closed_form import Parameters
from qslice import ids, names
from qslice.messages.run import read_run
from queens import count_solutions

from tests.support.lab import Lab

#: What becomes of a task's command: fields of its result.
Work = Callable[[list[str]], dict[str, Any]]


def result_of(lab: Lab, id_: str, **fields: Any) -> dict[str, Any]:
    """Return a succeeded run's result, with `fields` over it."""
    return {
        "job_id": ids.new(ids.JOB),
        "id": id_,
        "project": lab.project,
        "kind": names.RUN,
        "state": "succeeded",
        "attempt": 1,
        "labels": {},
    } | fields


def post(lab: Lab, *results: dict[str, Any]) -> None:
    """Put results on Done, as a worker does."""
    with pika.BlockingConnection(pika.URLParameters(lab.admin_url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for result in results:
            key = names.done_key(lab.project, result["kind"], result["state"])
            channel.basic_publish(names.EXCHANGE_DONE, key, json.dumps(result).encode())


@contextmanager
def answering(lab: Lab, work: Work) -> Iterator[None]:
    """Take each task from ToDo, and post what `work` makes of it, every result twice."""
    stop = threading.Event()

    def serve() -> None:
        with pika.BlockingConnection(pika.URLParameters(lab.admin_url)) as connection:
            channel = connection.channel()
            while not stop.is_set():
                method, _, body = channel.basic_get(names.todo(lab.project))
                if method is None:
                    connection.sleep(0.05)
                    continue
                run, task = read_run(body)
                result = result_of(lab, str(run.id), labels=run.labels)
                if task:
                    result |= {"ID_projet": task.ID_projet, "ID_tache": task.ID_tache}
                result |= work(run.command)
                post(lab, result, result)
                channel.basic_ack(method.delivery_tag)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


def measure(command: list[str]) -> dict[str, Any]:
    """Do what the BB84 experiment's container does."""
    option = dict(zip(command[2::2], command[3::2], strict=True))
    link = Parameters(distance_km=float(option["--distance"]))
    pulses = int(float(option["--pulses"]))
    return {"result": experiment(link, pulses, int(option["--seed"]))}


def count_queens(command: list[str]) -> dict[str, Any]:
    """Do what the N queens container does."""
    size, column = map(int, command[2:])
    return {"Resultat": str(count_solutions(size, [column]))}
