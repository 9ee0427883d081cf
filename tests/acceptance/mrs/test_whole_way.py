"""From a sweep over REST to its record in the registry, and back onto the batch: all real."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from qslice.messages.completion import PublicationSettings
from qslice.sdk import Client

from tests.support.crates import check
from tests.support.gateway import RUN
from tests.support.mrs import Mrs, start_mrs
from tests.support.processes import ProcessStarter
from tests.support.system import System
from tests.support.wait import wait_for

SWEEP = {**RUN, "command": ["noop", "{distance}"]}
GRID = {"distance": [0, 10, 20]}


@pytest.fixture
def system(
    start_process: ProcessStarter,
    tmp_path: Path,
    broker_url: str,
    database_url: str,
    management_url: str,
) -> Iterator[System]:
    made = System(
        start_process,
        tmp_path,
        broker_url,
        database_url,
        management_url,
        QSLICE_PUBLIC_URL="https://qslice.example",
    )
    made.start()
    made.wait_until_ready()
    yield made
    made.close()


def publish_to(mrs: Mrs, system: System, start_process: ProcessStarter) -> None:
    broker = system.environment["QSLICE_AMQP_URL"]
    start_process("qslice-mrs", env=mrs.environment(broker)).wait_for_log("publishing")


def finished(client: Client) -> str:
    batch = client.sweep(SWEEP, grid=GRID, name="key rate")
    wait_for(lambda: batch.summary().is_final, 120, "the sweep to end")
    return batch.batch_id


def published(client: Client, batch_id: str, revision: int = 1) -> None:
    def is_there() -> bool:
        found = {one.id: one for one in client.publications()}.get(batch_id)
        return found is not None and (found.state, found.revision) == ("published", revision)

    wait_for(is_there, 120, f"{batch_id} published as revision {revision}")


def test_a_finished_sweep_is_in_the_registry_and_the_batch_says_where(
    system: System, start_process: ProcessStarter, tmp_path: Path
) -> None:
    mrs = start_mrs(start_process, tmp_path / "mrs")
    publish_to(mrs, system, start_process)
    with system.client() as client:
        client.change_publication_settings(PublicationSettings(license="CC-BY-4.0"))
        batch_id = finished(client)
        published(client, batch_id)
        (record,) = mrs.objects(batch_id)
        assert (record["$type"], record["license"]) == ("Dataset", "CC-BY-4.0")
        assert record["name"] == "Results of batch key rate"
        shown = client.publication(batch_id)
        assert shown.internal_id == record["internalIdentifier"]
        page = httpx.get(str(shown.portal_url), trust_env=False)
        assert batch_id in page.text

        path = f"/api/v1/projects/alice/batches/{batch_id}"
        assert record["downloadUrl"] == f"https://qslice.example{path}/results?format=csv"
        table = client.api.file(f"{path}/results", format="csv")
        assert record["byteSize"] == len(table)
        assert record["fileMetadata"] == f"sha256:{hashlib.sha256(table).hexdigest()}"

        crate = zipfile.ZipFile(io.BytesIO(client.crate(batch_id)))
        document = json.loads(crate.read("ro-crate-metadata.json"))
        assert check(document, set(crate.namelist())) == []


def test_a_registry_that_came_late_has_all_once_and_a_replay_changes_the_one_record(
    system: System, start_process: ProcessStarter, tmp_path: Path
) -> None:
    with system.client() as client:
        batches = [finished(client) for _ in range(3)]
        mrs = start_mrs(start_process, tmp_path / "mrs")
        publish_to(mrs, system, start_process)
        for batch_id in batches:
            published(client, batch_id)
        client.change_publication_settings(PublicationSettings(keywords=["QKD"]))
        client.replay_publication(batches[0])
        published(client, batches[0], revision=2)
        assert sorted(entry["identifier"] for entry in mrs.objects()) == sorted(batches)
        assert "QKD" in mrs.objects(batches[0])[0]["keywords"]


def test_what_the_registry_refused_is_on_the_batch_and_is_replayed(
    system: System, start_process: ProcessStarter, tmp_path: Path
) -> None:
    mrs = start_mrs(start_process, tmp_path / "mrs")
    mrs.fail("status", "create", status=400, times=1, body="the name is taken")
    publish_to(mrs, system, start_process)
    with system.client() as client:
        batch_id = finished(client)

        def given_up() -> bool:
            return any(one.state == "failed" for one in client.publications())

        wait_for(given_up, 120, "the refusal")
        error = client.publication(batch_id).error
        assert error is not None
        assert "the name is taken" in error.message
        client.replay_publication(batch_id)
        published(client, batch_id, revision=2)
        assert len(mrs.objects(batch_id)) == 1
