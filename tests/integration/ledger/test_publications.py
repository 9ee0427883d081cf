"""From a finished batch or a resource's event to what the publisher is told, and back."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from qslice import ids
from qslice.backoff import Backoff
from qslice.messages.completion import (
    Completion,
    PublicationReport,
    PublicationSettings,
    PublicationState,
)
from qslice.messages.ledger import Event
from qslice_gateway import results
from qslice_gateway.batches import Points
from qslice_gateway.ledger import events, publications
from qslice_gateway.ledger.batches import Batches
from qslice_gateway.ledger.broker import Delivery
from qslice_gateway.store import batches, pool
from qslice_gateway.store import publications as stored

from tests.support.store import Store, open_store

CREATOR = {
    "sub": "alice",
    "given_name": "Alice",
    "family_name": "Liddell",
    "email": "alice@example.org",
    "organization": "QKD lab",
    "experiment": "exp_localhost_01k8zzzzzzzzzzzzzzzzzzzzzz",
}
URL = "https://qslice.example"


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with open_store(database_url) as opened:
        yield opened


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Ledger]:
    made = Ledger(database_url)
    await made.pool.open()
    yield made
    await made.close()


class Ledger:
    """The ledger's parts that have to do with publications."""

    def __init__(self, url: str) -> None:
        self.pool = pool.open_async_pool(url, size=2)
        self.woken = 0
        self.publications = publications.Publications(self.pool, url, URL, self.wake)
        self.batches = Batches(self.pool, self.wake, self.publications.call, publish=True)
        self.recording = events.Recording(self.pool, Backoff(), self.wake, self.publications.call)

    def wake(self) -> None:
        self.woken += 1

    async def close(self) -> None:
        if self.publications._threads is not None:
            self.publications._threads.close()
        await self.pool.close()

    async def hear(self, *bodies: bytes, redelivered: bool = False) -> None:
        await self.recording.handle(
            [
                Delivery(
                    tag=tag,
                    routing_key="",
                    redelivered=redelivered,
                    body=body,
                    properties=None,
                    arrived=0.0,
                )
                for tag, body in enumerate(bodies)
            ]
        )


def a_batch(store: Store, states: list[str], name: str = "sweep") -> str:
    """A batch whose jobs have come to these states, with their results."""
    batch_id = ids.new(ids.BATCH)
    distances = list(range(len(states)))
    template = {
        "template": {
            "repository": "https://git.example/qkd/bb84.git",
            "command": ["python", "bb84.py", "--distance", "{distance}"],
            "labels": {},
        },
        "grid": [["distance", distances]],
    }
    new = batches.NewBatch(
        id=batch_id,
        project="lab",
        owner="alice",
        template=template,
        name=name,
        created_by=CREATOR,
    )
    members = [store.new(batch_id=batch_id, batch_index=n) for n in distances]
    batches.create(store.conn, new, members)
    for member, state in zip(members, states, strict=True):
        end(store, member.id, state)
    return batch_id


def end(store: Store, job_id: str, state: str) -> None:
    result = {"result": {"rate": 0.5}, "commit": "c" * 40, "image_digest": "sha256:" + "d" * 64}
    store.sql(
        """UPDATE jobs SET state = %s, started_at = '2026-01-01T10:00Z',
               finished_at = '2026-01-01T11:00Z', result = %s::jsonb WHERE id = %s""",
        state,
        orjson.dumps(result).decode(),
        job_id,
    )


def told(store: Store) -> list[Completion]:
    """The completions in the outbox, which is emptied of them."""
    found = store.sql(
        "DELETE FROM outbox WHERE routing_key LIKE '%%.completion' RETURNING id, routing_key, body"
    )
    return [Completion.read(bytes(row["body"])) for row in sorted(found, key=lambda row: row["id"])]


def the_only(store: Store) -> dict[str, Any]:
    (found,) = stored.listed(store.conn, "lab")
    return found


def report(told_of: Completion, **given: Any) -> bytes:
    return PublicationReport.of(
        {
            "identifier": told_of.identifier,
            "revision": told_of.revision,
            "project": told_of.project,
            "state": "published",
            "at": datetime.now(UTC),
            **given,
        }
    ).body()


async def test_a_finished_batch_is_told_with_all_that_it_was_made_of(
    store: Store, ledger: Ledger
) -> None:
    batch_id = a_batch(store, ["succeeded", "succeeded", "failed"])
    assert await ledger.batches.look() == 1
    assert await ledger.publications.look() == 1
    (completion,) = told(store)
    assert (completion.identifier, completion.what, completion.name) == (batch_id, "batch", "sweep")
    assert completion.counts == {"succeeded": 2, "failed": 1}
    assert completion.experiment == CREATOR["experiment"]
    (software,) = completion.software
    assert (software.repository, software.commit, software.image) == (
        "https://git.example/qkd/bb84.git",
        "c" * 40,
        "sha256:" + "d" * 64,
    )
    assert software.command[-1] == "{distance}"
    (creator,) = completion.creators
    assert (creator.first_name, creator.last_name, creator.organization) == (
        "Alice",
        "Liddell",
        "QKD lab",
    )
    assert completion.dataset is not None
    assert completion.dataset.time_start.isoformat() == "2026-01-01T10:00:00+00:00"
    assert completion.dataset.time_end.isoformat() == "2026-01-01T11:00:00+00:00"
    assert completion.dataset.download_url == (
        f"{URL}/api/v1/projects/lab/batches/{batch_id}/results?format=csv"
    )
    assert the_only(store)["state"] == "pending"


async def test_size_and_checksum_are_those_of_the_file_that_is_downloaded(
    store: Store, ledger: Ledger
) -> None:
    batch_id = a_batch(store, ["succeeded"] * 3)
    await ledger.batches.look()
    await ledger.publications.look()
    (completion,) = told(store)
    batch = batches.get(store.conn, batch_id)
    assert batch is not None
    points = Points.of(batch["template"])
    file = b"".join(
        results.table(
            batches.result_columns(store.conn, batch_id),
            points,
            results.pages(lambda: nullcontext(store.conn), batch_id, points),
        )
    )
    assert completion.dataset is not None
    assert completion.dataset.sha256 == hashlib.sha256(file).hexdigest()
    assert completion.dataset.bytes == len(file)
    assert len(list(csv.reader(io.StringIO(file.decode())))) == 4


async def test_a_batch_without_a_single_result_is_not_published(
    store: Store, ledger: Ledger
) -> None:
    a_batch(store, ["failed", "cancelled"])
    assert await ledger.batches.look() == 1
    assert await ledger.publications.look() == 0
    assert stored.listed(store.conn, "lab") == []


async def test_nothing_is_due_where_the_operator_has_no_registry(
    store: Store, ledger: Ledger
) -> None:
    a_batch(store, ["succeeded"])
    assert await Batches(ledger.pool, ledger.wake).look() == 1
    assert stored.listed(store.conn, "lab") == []


async def test_a_batch_that_was_opened_again_is_told_again_as_a_later_revision(
    store: Store, ledger: Ledger
) -> None:
    batch_id = a_batch(store, ["succeeded", "failed"])
    await ledger.batches.look()
    await ledger.publications.look()
    store.sql("UPDATE batches SET finished_at = NULL WHERE id = %s", batch_id)
    await ledger.batches.look()
    await ledger.publications.look()
    assert [completion.revision for completion in told(store)] == [1, 2]


async def test_a_project_that_publishes_nothing_withholds_until_it_does(
    store: Store, ledger: Ledger
) -> None:
    stored.change_settings(store.conn, "lab", PublicationSettings(enabled=False))
    a_batch(store, ["succeeded"])
    await ledger.batches.look()
    await ledger.publications.look()
    assert told(store) == []
    assert the_only(store)["state"] == "withheld"
    stored.change_settings(store.conn, "lab", PublicationSettings(license="CC-BY-4.0"))
    assert stored.replay(store.conn, "lab", the_only(store)["id"]) is not None
    await ledger.publications.look()
    (completion,) = told(store)
    assert (completion.revision, completion.settings.license) == (2, "CC-BY-4.0")


async def test_what_the_registry_said_is_kept_and_a_late_delay_does_not_undo_it(
    store: Store, ledger: Ledger
) -> None:
    a_batch(store, ["succeeded"])
    await ledger.batches.look()
    await ledger.publications.look()
    (completion,) = told(store)
    error = {"owner": "system", "code": "mrs_unavailable", "message": "503 maintenance"}
    delayed = report(completion, state="delayed", error=error)
    await ledger.hear(delayed)
    assert (the_only(store)["state"], the_only(store)["error"]) == ("delayed", error)
    page = "https://portal.example/app/management/digital-objects/view/7"
    await ledger.hear(
        report(completion, internal_id=7, portal_url=page, action="created", attempts=2)
    )
    await ledger.hear(delayed, redelivered=True)
    found = the_only(store)
    assert (found["state"], found["internal_id"], found["portal_url"]) == ("published", 7, page)
    assert (found["error"], found["attempts"], found["action"]) == (None, 2, "created")


async def test_an_answer_to_an_older_revision_tells_the_id_and_not_the_state(
    store: Store, ledger: Ledger
) -> None:
    a_batch(store, ["succeeded"])
    await ledger.batches.look()
    await ledger.publications.look()
    (first,) = told(store)
    stored.replay(store.conn, "lab", first.identifier)
    await ledger.hear(report(first, internal_id=7, portal_url="https://p/7", action="created"))
    found = the_only(store)
    assert (found["state"], found["internal_id"]) == ("pending", 7)


async def test_another_project_s_report_changes_nothing(store: Store, ledger: Ledger) -> None:
    a_batch(store, ["succeeded"])
    await ledger.batches.look()
    await ledger.publications.look()
    (completion,) = told(store)
    await ledger.hear(report(completion, project="other", internal_id=7))
    assert the_only(store)["internal_id"] is None


def resource_event(store: Store, job_id: str, at: datetime, **facts: Any) -> bytes:
    data = {"what": "server", "name": "vm1", "created_at": "2026-01-01T10:00:00Z", **facts}
    return Event.of(
        {
            "type": "resource",
            "job_id": job_id,
            "project": "lab",
            "kind": "openstack",
            "attempt": 1,
            "worker": "w",
            "at": at,
            "data": data,
        }
    ).body()


@pytest.mark.parametrize("reordered", [False, True])
async def test_a_resource_is_told_when_it_is_made_and_when_it_ends_in_any_order(
    store: Store, ledger: Ledger, reordered: bool
) -> None:
    job_id = store.running(kind="openstack")
    identifier = ids.new(ids.RESOURCE)
    at = datetime.now(UTC)
    made = resource_event(
        store, job_id, at, identifier=identifier, event="created", image="debian-12"
    )
    ended = resource_event(
        store,
        job_id,
        at + timedelta(seconds=0.5),
        identifier=identifier,
        event="ended",
        ended_at="2026-01-02T10:00:00Z",
    )
    for body in (ended, made) if reordered else (made, ended):
        await ledger.hear(body)
        await ledger.hear(body, redelivered=True)
        await ledger.publications.look()
    last = told(store)[-1]
    assert (last.identifier, last.event, last.image, last.revision) == (
        identifier,
        "ended",
        "debian-12",
        2,
    )
    assert last.ended_at is not None
    assert last.job_id == job_id
    assert last.creators[0].last_name == "alice"
    assert stored.of_job(store.conn, job_id)[0]["id"] == identifier


async def test_facts_that_cannot_be_read_do_not_hold_up_the_events(
    store: Store, ledger: Ledger
) -> None:
    job_id = store.running(kind="openstack")
    at = datetime.now(UTC)
    await ledger.hear(
        resource_event(store, job_id, at, identifier="no id", event="created"),
        resource_event(store, job_id, at, identifier=ids.new(ids.RESOURCE), event="exploded"),
    )
    assert stored.listed(store.conn, "lab") == []
    kept = store.sql("SELECT count(*) AS n FROM job_events WHERE type = 'resource'")
    assert kept[0]["n"] == 2


async def test_completions_and_reports_are_no_events_of_a_job(store: Store, ledger: Ledger) -> None:
    a_batch(store, ["succeeded"])
    await ledger.batches.look()
    await ledger.publications.look()
    (completion,) = told(store)
    await ledger.hear(completion.body(), report(completion))
    assert the_only(store)["state"] == PublicationState.PUBLISHED
    assert store.sql("SELECT * FROM job_events WHERE type <> 'state'") == []
