"""A job's log and events: as text, as pages, and as live streams that can be resumed."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from qslice_gateway import streams

from tests.support.gateway import RUN, Caller, TestGateway, Tokens, gateway
from tests.support.wait import wait_for


@dataclass
class Event:
    id: int | None
    name: str
    data: Any


def events_of(text: str) -> list[Event]:
    """The events of a stream, as a browser reads them."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.split("\n") if line[:1] not in ("", ":")
        )
        if "data" in fields:
            place = int(fields["id"]) if "id" in fields else None
            found.append(Event(place, fields["event"], orjson.loads(fields["data"])))
    return found


class Job:
    """A job whose log and end are written as the ledger writes them."""

    def __init__(self, house: TestGateway, caller: Caller) -> None:
        answer = caller.post("/api/v1/projects/lab/jobs", RUN)
        self._house = house
        self.id: str = (answer.json or {})["job_id"]
        self.path = f"/api/v1/jobs/{self.id}"

    def write(self, seq: int, text: str, attempt: int = 1) -> None:
        self._execute(
            """INSERT INTO job_logs (job_id, attempt, seq, stream, at, text)
               VALUES (%s, %s, %s, 'stdout', now(), %s)""",
            self.id,
            attempt,
            seq,
            text,
        )

    def happen(self, type_: str) -> None:
        self._execute(
            "INSERT INTO job_events (job_id, attempt, type) VALUES (%s, 1, %s)", self.id, type_
        )

    def end(self, seconds_ago: float = 0) -> None:
        self._execute(
            """UPDATE jobs SET state = 'succeeded', finished_at = now() - make_interval(secs => %s)
               WHERE id = %s""",
            seconds_ago,
            self.id,
        )

    def _execute(self, query: str, *values: Any) -> None:
        with self._house.services.pool.connection() as connection:
            connection.execute(query.encode(), values)


@pytest.fixture
def job(house: TestGateway, alice: Caller) -> Job:
    return Job(house, alice)


STREAM = {"Accept": "text/event-stream"}


def test_the_log_is_text_unless_a_stream_is_asked_for(alice: Caller, job: Job) -> None:
    job.write(1, "one\ntw")
    job.write(2, "o\n")
    job.write(1, "again\n", attempt=2)
    for headers in ({}, {"Accept": "text/plain"}, {"Accept": "*/*"}):
        answer = alice.get(f"{job.path}/logs", headers=headers)
        assert answer.content_type == "text/plain; charset=utf-8"
        assert answer.text == "one\ntwo\nagain\n"
    assert alice.get(f"{job.path}/logs?attempt=2").text == "again\n"


def test_another_form_is_not_there(alice: Caller, job: Job) -> None:
    answer = alice.get(f"{job.path}/logs", headers={"Accept": "image/png"})
    assert (answer.status_code, answer.json and answer.json["code"]) == (406, "not_acceptable")


def test_a_finished_jobs_stream_gives_all_and_ends(alice: Caller, job: Job) -> None:
    for seq in range(1, 4):
        job.write(seq, f"line {seq}\n")
    job.end(seconds_ago=60)
    answer = alice.get(f"{job.path}/logs", headers=STREAM)
    assert answer.content_type == "text/event-stream"
    found = events_of(answer.text)
    assert [event.data["text"] for event in found[:-1]] == ["line 1\n", "line 2\n", "line 3\n"]
    assert (found[-1].name, found[-1].data) == ("end", {"state": "succeeded"})


def test_a_stream_goes_on_after_the_last_event_that_was_received(alice: Caller, job: Job) -> None:
    for seq in range(1, 6):
        job.write(seq, f"line {seq}\n")
    job.end(seconds_ago=60)
    all_ = events_of(alice.get(f"{job.path}/logs", headers=STREAM).text)
    resumed = alice.get(f"{job.path}/logs", headers={**STREAM, "Last-Event-ID": str(all_[2].id)})
    assert events_of(resumed.text) == all_[3:]


def test_a_stream_that_does_not_follow_ends_though_the_job_goes_on(alice: Caller, job: Job) -> None:
    job.write(1, "so far\n")
    found = events_of(alice.get(f"{job.path}/logs?follow=false", headers=STREAM).text)
    assert [event.name for event in found] == ["log", "end"]
    assert found[-1].data == {"state": "waiting"}


@pytest.mark.parametrize("place", ["x", "-1", "9" * 19, "1.5"])
def test_a_place_that_no_event_had_is_refused(alice: Caller, job: Job, place: str) -> None:
    answer = alice.get(f"{job.path}/logs", headers={**STREAM, "Last-Event-ID": place})
    assert answer.status_code == 422
    assert (answer.json or {})["errors"][0]["field"] == "Last-Event-ID"


def test_lines_come_while_the_job_runs_and_those_that_come_late_are_not_lost(
    alice: Caller, job: Job
) -> None:
    answer = alice.get(f"{job.path}/logs", headers=STREAM, buffered=False)
    seen: list[Event] = []

    def read() -> None:
        for part in answer.response:
            seen.extend(events_of(part if isinstance(part, str) else part.decode()))

    reader = threading.Thread(target=read)
    reader.start()
    job.write(1, "one\n")
    wait_for(lambda: len(seen) == 1, 60, "the first line")
    job.write(2, "two\n")
    wait_for(lambda: len(seen) == 2, 60, "the second line")
    job.end()
    # Results overtake events: they come by another queue.
    job.write(3, "three\n")
    reader.join(60)
    answer.close()
    assert [event.name for event in seen] == ["log", "log", "log", "end"]
    assert seen[2].data["text"] == "three\n"


def test_events_are_a_page_or_a_stream(alice: Caller, job: Job) -> None:
    for type_ in ("queued", "running", "started"):
        job.happen(type_)
    first = alice.get(f"{job.path}/events?limit=2").json or {}
    rest = alice.get(f"{job.path}/events?cursor={first['next']}").json or {}
    found = [event["type"] for event in first["items"] + rest["items"]]
    assert found == ["queued", "running", "started"]
    assert rest["next"] is None
    job.end(seconds_ago=60)
    stream = events_of(alice.get(f"{job.path}/events", headers=STREAM).text)
    assert [event.data.get("type") for event in stream[:-1]] == found


def test_streams_are_bounded_and_the_rest_goes_on(
    tokens: Tokens, database_url: str, broker_url: str, management_url: str
) -> None:
    with gateway(tokens, database_url, broker_url, management_url, max_streams=2) as house:
        alice = house.by("alice")
        alice.post("/api/v1/projects", {"name": "lab"})
        job = Job(house, alice)
        path = f"{job.path}/logs"
        open_ = [alice.get(path, headers=STREAM, buffered=False) for _ in range(2)]
        refused = alice.get(path, headers=STREAM)
        assert (refused.status_code, refused.json and refused.json["code"]) == (
            503,
            "too_many_streams",
        )
        assert refused.headers["Retry-After"] == "5"
        assert alice.get(path).status_code == 200
        # Neither who looks only at the headers nor who hangs up keeps a place.
        assert alice.send("HEAD", path, headers=STREAM).status_code == 200
        open_.pop().close()
        job.end(seconds_ago=60)
        assert events_of(alice.get(path, headers=STREAM).text)[-1].name == "end"
        open_.pop().close()


def test_a_stream_ends_after_its_time_and_can_be_resumed(
    tokens: Tokens, database_url: str, broker_url: str, management_url: str
) -> None:
    with gateway(tokens, database_url, broker_url, management_url, stream_s=0.01) as house:
        alice = house.by("alice")
        alice.post("/api/v1/projects", {"name": "lab"})
        job = Job(house, alice)
        job.write(1, "one\n")
        found = events_of(alice.get(f"{job.path}/logs", headers=STREAM).text)
        assert [event.name for event in found] == ["log"]


def test_text_with_lines_in_it_stays_one_event() -> None:
    block = streams.event("log", {"id": 7, "text": "a\n\nb\r\n"}).decode()
    assert block.count("\n\n") == 1
    assert events_of(block) == [Event(7, "log", {"text": "a\n\nb\r\n"})]
