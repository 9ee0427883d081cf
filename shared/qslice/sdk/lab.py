"""A lab's own way in: runs go on the project's queue, results come from its Done, over AMQP.

>>> from qslice.sdk import Lab
>>> with Lab("amqp://bb84:…@localhost/qslice", "bb84") as lab:              # doctest: +SKIP
...     sweep = lab.sweep({"repository": "https://git.example/qkd/bb84.git",
...                        "command": ["python", "/app/bb84.py", "--distance", "{distance}"]},
...                       grid={"distance": range(0, 200, 10)}, name="s1")
...     for result in lab.results(sweep, resume_file="s1.seen"):
...         print(result.labels["distance"], result.state, result.result)
"""

import logging
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import orjson

from qslice import grids, ids, names
from qslice.messages.base import Rejected
from qslice.messages.ledger import DeadLetter
from qslice.messages.result import Result
from qslice.messages.run import Run, read_run
from qslice.sdk.errors import BrokerError, Unconfigured
from qslice.sdk.link import Link
from qslice.sdk.publisher import Publisher
from qslice.sdk.reader import Delivery, Reader
from qslice.sdk.results import Journal

log = logging.getLogger("qslice.sdk")

#: A run as `submit` takes it: the model, or the JSON object (also in the TP's form).
RunLike = Run | Mapping[str, Any]


class Sweep(tuple[str, ...]):
    """The ids of a sweep's runs, in the order of the grid."""

    __slots__ = ()


class Lab:
    """A project's queues, for scripts. Use it from any thread; close it, or use `with`.

    Nothing is lost and nothing runs twice: a message counts as sent once the broker confirmed it,
    it is sent again after a cut, and its `id` makes the second the same job. The connection lives
    in a thread of its own: heartbeats go on while the script computes.
    """

    def __init__(
        self,
        amqp_url: str | None = None,
        project: str | None = None,
        *,
        timeout_s: float = 120.0,
        heartbeat_s: int = 30,
    ) -> None:
        """Connect as the project's own RabbitMQ user.

        `amqp_url` is `QSLICE_AMQP_URL` where it is not given, `project` `QSLICE_PROJECT`.
        `timeout_s` is how long connecting and a submit may take, through outages of the broker.
        Raises `BrokerError`, `Unconfigured`.
        """
        amqp_url = amqp_url or os.environ.get("QSLICE_AMQP_URL")
        project = project or os.environ.get("QSLICE_PROJECT")
        if not amqp_url:
            raise Unconfigured("give amqp_url, or set QSLICE_AMQP_URL")
        if not project:
            raise Unconfigured("give project, or set QSLICE_PROJECT")
        self.project = names.check_project(project)
        self._timeout_s = timeout_s
        self._link = Link(amqp_url, f"lab {project} pid {os.getpid()}", heartbeat_s)
        self._link.open(timeout_s)
        self._publisher = Publisher(self._link)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. What was read and not done with goes back to Done."""
        self._link.close()

    def submit(self, run: RunLike) -> str:
        """Put one run on the queue; returns its `id`, made here where the run has none.

        The same `id` again is the same job: a script that starts anew may submit all of its runs.

        >>> lab.submit({"repository": "https://git.example/qkd/bb84.git",   # doctest: +SKIP
        ...             "command": ["python", "/app/bb84.py"], "id": "t-10km"})
        't-10km'

        Raises `Rejected`, which names the field, and `BrokerError`.
        """
        return self.submit_many([run])[0]

    def submit_many(self, runs: Iterable[RunLike]) -> list[str]:
        """Put runs on the queue, many under way at a time; returns their ids in order.

        All are checked before the first is sent. Raises as `submit` does: then those before the
        one that failed are on the queue, and submitting all of them again does no harm.
        """
        messages = [_message(run) for run in runs]
        ends = time.monotonic() + self._timeout_s
        key = names.todo(self.project)
        under_way: deque[Future[None]] = deque()
        try:
            for id_, priority, body in messages:
                under_way.append(
                    self._publisher.publish(
                        names.EXCHANGE_TODO, key, body, id_, priority, ends - time.monotonic()
                    )
                )
                while under_way and under_way[0].done():
                    under_way.popleft().result()
            for future in under_way:
                future.result(max(ends - time.monotonic(), 0.0))
        except TimeoutError:
            raise BrokerError(
                f"the broker did not confirm within {self._timeout_s:g} s; submit the same runs "
                "again: their ids make sure that none runs twice"
            ) from None
        return [id_ for id_, _, _ in messages]

    def sweep(
        self,
        template: RunLike,
        grid: Mapping[str, Sequence[Any]] | None = None,
        points: Sequence[Mapping[str, Any]] | None = None,
        *,
        name: str | None = None,
    ) -> Sweep:
        """Submit a run for each point of a grid, or of a list of points.

        `{placeholders}` in the template's `id`, `command`, `env` and `labels` are replaced; the
        point becomes labels of the run, and so of its result. The ids are the template's, else
        `<name>/0`, `<name>/1`, …: with a `name` of its own a sweep that is submitted again, by a
        script that was started anew, is the same jobs.

        Raises `Rejected`, which names the field, and `BrokerError`.
        """
        fields = _fields(template)
        if (grid is None) == (points is None):
            raise Rejected("grid", "give either a grid or points")
        if grid is not None:
            where = list(grids.points({key: list(values) for key, values in grid.items()}))
        else:
            where = grids.check_list(list(points or ()))
        filled = [grids.fill(fields, point) for point in where]
        if fields.get("id") is None:
            prefix = name or ids.encode(ids.uuid7())
            filled = [{**run, "id": f"{prefix}/{index}"} for index, run in enumerate(filled)]
        distinct = {run["id"] for run in filled}
        if len(distinct) < len(filled):
            raise Rejected("id", "every run of a sweep needs its own: use the placeholders in it")
        return Sweep(self.submit_many(filled))

    def results(
        self,
        expected: int | Iterable[str] | None = None,
        *,
        resume_file: str | os.PathLike[str] | None = None,
        keep_results: bool = False,
        timeout_s: float | None = None,
    ) -> Iterator[Result]:
        """The results on Done as they come, each job's once.

        `expected`: a number of results, or the ids (a `Sweep`) whose results are wanted; those of
        other jobs are left on Done for others. None: whatever comes, until `timeout_s` passed with
        nothing new.

        A result leaves Done when the loop comes back for the next one: of a script that dies in
        the loop's body it comes again. `resume_file` remembers which results are done with, so a
        script that is started anew goes on where it was; with `keep_results` the file holds the
        results themselves, and they are given again first.

        >>> for result in lab.results(sweep, resume_file="s1.seen"):        # doctest: +SKIP
        ...     rows.append((float(result.labels["distance"]), result.result["key_rate"]))

        Raises `TimeoutError` where `timeout_s` (seconds with nothing new) passed and results are
        missing, and `BrokerError`. A broker that is away is waited for.
        """
        wanted: set[str] | None = None
        if not isinstance(expected, int) and expected is not None:
            wanted = {expected} if isinstance(expected, str) else set(expected)
        with Journal(resume_file, keep_results=keep_results) as journal:
            kept = list(journal.kept()) if keep_results else []
            for result in kept:
                if wanted is None or result.id in wanted or result.job_id in wanted:
                    yield result
            if wanted is not None:
                wanted = {key for key in wanted if not journal.has(key)}
            missing = len(wanted) if wanted is not None else None
            if isinstance(expected, int):
                missing = max(expected - len(journal), 0)
            if missing == 0:
                return
            yield from self._new_results(journal, wanted, missing, timeout_s)

    def dead_letters(self, timeout_s: float = 1.0) -> Iterator[tuple[DeadLetter, bytes]]:
        """What could not be read or done: why, and the message as it was sent.

        Ends when nothing came for `timeout_s`. They leave `<project>.Dead` as the loop goes on;
        the gateway keeps its own copy, which REST lists and replays.

        >>> for why, message in lab.dead_letters():                         # doctest: +SKIP
        ...     print(why.field, why.reason, message[:80])
        """
        reader = Reader(self._link, names.dead(self.project))
        try:
            while (delivery := reader.get(timeout_s)) is not None:
                yield _dead_letter(delivery), delivery.body
                reader.ack(delivery)
        finally:
            reader.close()

    def _new_results(
        self,
        journal: Journal,
        wanted: set[str] | None,
        missing: int | None,
        timeout_s: float | None,
    ) -> Iterator[Result]:
        reader = Reader(self._link, names.done(self.project))
        try:
            last = time.monotonic()
            while missing is None or missing > 0:
                quiet = time.monotonic() - last
                if timeout_s is not None and quiet >= timeout_s:
                    if missing is None:
                        return
                    raise TimeoutError(
                        f"{missing} results are missing and none came for {timeout_s:g} s"
                    )
                reader.pass_on()
                delivery = reader.get(1.0 if timeout_s is None else min(1.0, timeout_s - quiet))
                if delivery is None:
                    continue
                result = _result(delivery)
                if result is None or journal.seen(result.job_id):
                    reader.ack(delivery)
                elif wanted is not None and not {result.id, result.job_id} & wanted:
                    reader.leave(delivery)
                else:
                    yield result
                    journal.add(result)
                    reader.ack(delivery)
                    last = time.monotonic()
                    if wanted is not None:
                        wanted -= {result.id or "", result.job_id}
                        missing = len(wanted)
                    elif missing is not None:
                        missing -= 1
        finally:
            reader.close()


def _fields(run: RunLike) -> dict[str, Any]:
    return run.model_dump(exclude_unset=True) if isinstance(run, Run) else dict(run)


def _message(run: RunLike) -> tuple[str, int, bytes]:
    """The id, priority and body of a run's message; raises `Rejected` that names the field."""
    fields = _fields(run)
    try:
        body = orjson.dumps(fields)
    except TypeError as wrong:
        raise Rejected("", f"is no JSON: {wrong}") from None
    checked, task = read_run(body)
    if task is None and checked.id is None:
        checked = checked.model_copy(update={"id": ids.encode(ids.uuid7())})
        body = orjson.dumps({**fields, "id": checked.id})
    return str(checked.id), checked.priority, body


def _result(delivery: Delivery) -> Result | None:
    try:
        return Result.read(delivery.body)
    except Rejected as wrong:
        log.warning("passed over what is no result on Done: %s", wrong)
        return None


def _dead_letter(delivery: Delivery) -> DeadLetter:
    def header(name: str) -> str | None:
        value = delivery.headers.get(name)
        return value if isinstance(value, str) else None

    return DeadLetter(
        reason=header(names.HEADER_REASON) or "not told",
        field=header(names.HEADER_FIELD),
        owner=header(names.HEADER_OWNER) or "system",
        queue=header(names.HEADER_QUEUE),
        job_id=header(names.HEADER_JOB),
    )
