"""Hands runs in, by REST and over the broker, through every outage, until all are accepted."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from typing import Any

from qslice.sdk import Client, Lab
from qslice.sdk.errors import ApiError, BrokerError, Unreachable
from qslice.states import State

log = logging.getLogger(__name__)

#: Commands of `tests.support.noop_handler`, how often each comes, and how it ends.
_COMMANDS: tuple[tuple[tuple[str, ...], int, State], ...] = (
    (("noop",), 60, State.SUCCEEDED),
    (("print", "a", "photon"), 15, State.SUCCEEDED),
    (("sleep", "0.2"), 15, State.SUCCEEDED),
    (("fail",), 6, State.FAILED),
    (("timeout",), 4, State.TIMED_OUT),
)
_LARGEST = 40
#: Of the requests, how many are sent once more, and how many have a job of theirs cancelled.
_TWICE, _CANCELLED = 0.1, 0.05
_REFUSED = (ApiError, BrokerError, Unreachable, TimeoutError)


class Load:
    """`expected` tells, for each run whose handing in was confirmed, how it may end."""

    def __init__(self, seed: int, seconds: float, give_up: threading.Event) -> None:
        self._seed = seed
        self._seconds = seconds
        self._give_up = give_up
        self._threads: list[threading.Thread] = []
        self.expected: dict[str, frozenset[State]] = {}
        #: Requests sent again on purpose, and after errors that outlasted the SDK's own patience.
        self.twice = 0
        self.again = 0

    def by_rest(self, client: Client, jobs: int) -> None:
        rng = random.Random(f"{self._seed}-rest")

        def send(runs: list[dict[str, Any]]) -> None:
            refs = client.submit_many(runs, request_id=runs[0]["id"])
            if rng.random() < _CANCELLED:
                one = rng.choice(refs)
                self.expected[str(one.id)] |= {State.CANCELLED}
                client.cancel(one)

        self._start("r", jobs, rng, send)

    def by_broker(self, lab: Lab, jobs: int) -> None:
        self._start("q", jobs, random.Random(f"{self._seed}-broker"), lab.submit_many)

    @property
    def is_done(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def wait(self) -> None:
        for thread in self._threads:
            thread.join()

    def _start(
        self,
        prefix: str,
        jobs: int,
        rng: random.Random,
        send: Callable[[list[dict[str, Any]]], object],
    ) -> None:
        thread = threading.Thread(target=self._hand_in, args=(prefix, jobs, rng, send))
        self._threads.append(thread)
        thread.start()

    def _hand_in(
        self,
        prefix: str,
        jobs: int,
        rng: random.Random,
        send: Callable[[list[dict[str, Any]]], object],
    ) -> None:
        made = 0
        while made < jobs and not self._give_up.is_set():
            runs, expected = [], {}
            for number in range(made, min(jobs, made + rng.randint(1, _LARGEST))):
                [(command, _, state)] = rng.choices(_COMMANDS, [often for _, often, _ in _COMMANDS])
                id_ = f"{prefix}-{number}"
                runs.append(
                    {"id": id_, "repository": "https://git.example/a", "command": list(command)}
                )
                expected[id_] = frozenset({state})
            made += len(runs)
            # Before it is sent: a cancel adds to it. What is never accepted shows as lost.
            self.expected.update(expected)
            self._insist(send, runs)
            if rng.random() < _TWICE:
                self.twice += 1
                self._insist(send, runs)
            # Spread over the time in which parts are killed.
            self._give_up.wait(self._seconds * len(runs) / jobs)

    def _insist(
        self, send: Callable[[list[dict[str, Any]]], object], runs: list[dict[str, Any]]
    ) -> None:
        """The same request until it is accepted: its ids make that harmless."""
        while not self._give_up.is_set():
            try:
                send(runs)
            except _REFUSED as error:
                self.again += 1
                log.info("handed in again after: %s", error)
                self._give_up.wait(0.5)
            else:
                return
