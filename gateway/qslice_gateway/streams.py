"""Live streams as server-sent events: followed from the database, resumed by `Last-Event-ID`.

Each holds a thread of its process while it lasts, so their number is bounded: beyond it the answer
is a clear 503, and requests keep their threads.
"""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
from flask import Response, request

from qslice_gateway import metrics
from qslice_gateway.problems import Problem, invalid
from qslice_gateway.services import Services
from qslice_gateway.store.pool import Connection, Row

MEDIA_TYPE = "text/event-stream"
#: Seconds between two looks at the database: the first while something comes, at most the second.
BRISK_S, SLOW_S = 0.2, 1.0
#: A comment this often tells proxies and us that the other end is still there.
SIGN_OF_LIFE_S = 10.0
#: Events and results come by two queues: after the end a stream stays as long for stragglers.
SETTLING_S = 2.0
RETRY_MS = 2000

#: The process is asked to stop: streams end, and their clients resume them elsewhere.
STOPPING = threading.Event()

#: The items after a place, in order, each with its `id`.
Fetch = Callable[[Connection, int], list[Row]]
#: The job's state, and for how many seconds it is over (None: it is not).
Look = Callable[[Connection], tuple[str, float | None]]


def last_event_id() -> int | None:
    """Where a client wants to go on; raises `Problem` where it is no id of ours."""
    text = request.headers.get("Last-Event-ID")
    if text is None or text == "":
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise invalid([("Last-Event-ID", "must be the id of an event that was received")])
    return int(text)


def serve(services: Services, events: Iterator[bytes]) -> Response:
    """A stream as an answer; raises `Problem` 503 where there are too many."""
    headers = {"X-Accel-Buffering": "no"}
    if request.method == "HEAD":
        return Response(status=200, headers=headers, content_type=MEDIA_TYPE)
    if not services.streams.acquire(blocking=False):
        raise Problem(
            "too_many_streams",
            f"this process serves {services.settings.max_streams} at once; try again soon",
            headers={"Retry-After": "5"},
        )
    metrics.STREAMS.inc()
    answer = Response(events, 200, headers, content_type=MEDIA_TYPE)

    def over() -> None:
        metrics.STREAMS.dec()
        services.streams.release()

    answer.call_on_close(over)
    return answer


def follow(
    services: Services,
    name: str,
    fetch: Fetch,
    look: Look,
    after: int,
    *,
    live: bool = True,
) -> Iterator[bytes]:
    """Events of a job as they come, until it is over; then one event `end` with its state.

    Not `live`: those that are there, then the end. A stream that is cut off without that event
    is to be resumed.
    """
    yield b"retry: %d\n\n" % RETRY_MS
    begin = spoke_at = time.monotonic()
    pause = BRISK_S
    while True:
        with services.pool.connection() as connection:
            state, over_s = look(connection)
            rows = fetch(connection, after)
        now = time.monotonic()
        if rows:
            yield b"".join(event(name, row) for row in rows)
            after = rows[-1]["id"]
            spoke_at, pause = now, BRISK_S
            continue
        if not live or (over_s is not None and over_s >= SETTLING_S):
            yield b"event: end\ndata: " + orjson.dumps({"state": state}) + b"\n\n"
            return
        if now - begin > services.settings.stream_s:
            # The client comes back by itself, with the last id.
            return
        if now - spoke_at >= SIGN_OF_LIFE_S:
            yield b": still here\n\n"
            spoke_at = now
        if STOPPING.wait(pause):
            return
        pause = min(pause * 1.5, SLOW_S)


def event(name: str, row: Row) -> bytes:
    """One event; its data is the row without the id."""
    data: dict[str, Any] = {key: value for key, value in row.items() if key != "id"}
    text = orjson.dumps(data, option=orjson.OPT_UTC_Z)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (row["id"], name.encode(), text)
