"""What is in the metadata registry, on the command line."""

from __future__ import annotations

import zipfile
from pathlib import Path

import orjson
import psycopg
import pytest
from qslice import ids
from qslice.sdk import Client

from tests.integration.cli.conftest import Qslice
from tests.support.gateway import RUN

ERROR = {"owner": "system", "code": "mrs_refused", "message": "400 the name is too long"}


@pytest.fixture
def failed(client: Client, database_url: str) -> str:
    """A publication that the registry refused."""
    del client
    made = ids.new(ids.BATCH)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            """INSERT INTO publications (id, project, what, name, due, state, error)
               VALUES (%s, 'lab', 'batch', 'sweep', false, 'failed', %s::jsonb)""",
            [made, orjson.dumps(ERROR).decode()],
        )
    return made


def test_publications_are_listed_with_the_registry_s_answer(qslice: Qslice, failed: str) -> None:
    listed = qslice("publications", "list")
    assert (listed.code, failed in listed.out, "too long" in listed.out) == (0, True, True)
    assert qslice("publications", "list", "--state", "published", "--json").json == []


def test_what_was_given_up_is_published_again(qslice: Qslice, failed: str) -> None:
    again = qslice("publications", "replay", "--failed", "--json")
    assert (again.code, again.json["id"], again.json["state"]) == (0, failed, "pending")
    named = qslice("publications", "replay", failed)
    assert (named.code, named.out) == (0, f"{failed} is published again, as revision 3\n")
    missing = qslice("publications", "replay", ids.new(ids.BATCH))
    assert (missing.code, "no publication" in missing.err) == (1, True)
    assert qslice("publications", "replay").code == 2


def test_settings_are_shown_and_changed(qslice: Qslice, client: Client) -> None:
    del client
    assert qslice("publications", "settings", "--json").json["license"] == ""
    changed = qslice(
        "publications",
        "settings",
        "--set",
        "license=CC-BY-4.0",
        "--set",
        'keywords=["QKD"]',
        "--set",
        "enabled=false",
        "--json",
    )
    assert changed.code == 0
    found = qslice("publications", "settings", "--json").json
    assert (found["license"], found["keywords"], found["enabled"]) == ("CC-BY-4.0", ["QKD"], False)
    wrong = qslice("publications", "settings", "--set", "licence=MIT")
    assert (wrong.code, "licence" in wrong.err) == (1, True)


def test_a_batch_s_provenance_is_downloaded(
    qslice: Qslice, client: Client, database_url: str, tmp_path: Path
) -> None:
    batch = client.sweep(RUN, points=[{"n": 1}])
    early = qslice("publications", "crate", batch.batch_id)
    assert (early.code, "last job" in early.err) == (1, True)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE jobs SET state = 'succeeded', finished_at = now()")
        connection.execute("UPDATE batches SET finished_at = now()")
    path = tmp_path / "crate.zip"
    assert qslice("publications", "crate", batch.batch_id, "-o", str(path)).code == 0
    assert "ro-crate-metadata.json" in zipfile.ZipFile(path).namelist()
