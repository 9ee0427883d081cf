"""Publications, their settings, and provenance over REST."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import orjson
import pytest
from qslice import ids
from qslice.messages.completion import PublicationSettings
from qslice_gateway.auth.identity import of_claims
from qslice_gateway.settings import Issuer

from tests.support.crates import check
from tests.support.gateway import RUN, Caller, TestGateway

LAB = "/api/v1/projects/lab"
PUBLICATIONS = f"{LAB}/publications"
SETTINGS = f"{LAB}/settings/publication"


def publish(house: TestGateway, **columns: Any) -> str:
    """As the ledger writes a publication."""
    values = {
        "id": ids.new(ids.BATCH),
        "project": "lab",
        "what": "batch",
        "name": "sweep",
        "due": False,
        **columns,
    }
    names = ", ".join(values)
    places = ", ".join(f"%({name})s" for name in values)
    with house.services.pool.connection() as connection:
        connection.execute(f"INSERT INTO publications ({names}) VALUES ({places})".encode(), values)
    return str(values["id"])


def a_batch(alice: Caller, house: TestGateway, finished: bool = True) -> str:
    """A batch of two jobs that have ended."""
    template = {**RUN, "command": ["python", "bb84.py", "--distance", "{distance}"]}
    made = alice.post(
        f"{LAB}/batches", {"name": "sweep", "template": template, "grid": {"distance": [0, 10]}}
    ).json
    assert made is not None
    if finished:
        result = {"result": {"rate": 0.5}, "commit": "c" * 40, "image": "qslice-run:1"}
        with house.services.pool.connection() as connection:
            connection.execute(
                """UPDATE jobs SET state = 'succeeded', started_at = now(), finished_at = now(),
                       result = %s::jsonb WHERE batch_id = %s""",
                [orjson.dumps(result).decode(), made["batch_id"]],
            )
            connection.execute(
                "UPDATE batches SET finished_at = now() WHERE id = %s", [made["batch_id"]]
            )
    return str(made["batch_id"])


def test_publications_are_listed_by_pages_and_by_state(house: TestGateway, alice: Caller) -> None:
    made = [publish(house, name=f"n{n}") for n in range(3)]
    broken = publish(house, state="failed", error=json.dumps(ERROR))
    first = alice.get(f"{PUBLICATIONS}?limit=2").json or {}
    rest = alice.get(f"{PUBLICATIONS}?limit=2&cursor={first['next']}").json or {}
    found = [item["id"] for item in first["items"] + rest["items"]]
    assert sorted(found) == sorted([*made, broken])
    (failed,) = (alice.get(f"{PUBLICATIONS}?state=failed").json or {})["items"]
    assert (failed["id"], failed["error"]) == (broken, ERROR)
    assert alice.get(f"{PUBLICATIONS}?state=lost").status_code == 422


ERROR = {"owner": "system", "code": "mrs_refused", "message": "400 name: too long"}


def test_a_replay_is_due_again_as_the_next_revision(house: TestGateway, alice: Caller) -> None:
    made = publish(house, state="failed", error=json.dumps(ERROR), attempts=3)
    answer = alice.post(f"{PUBLICATIONS}/{made}/replay")
    assert answer.status_code == 202
    assert answer.json is not None
    found = (answer.json["state"], answer.json["revision"], answer.json["error"])
    assert found == ("pending", 2, None)
    with house.services.pool.connection() as connection:
        row = connection.execute("SELECT due FROM publications WHERE id = %s", [made]).fetchone()
    assert row == {"due": True}


@pytest.mark.parametrize("name", ["nothing", "batch_localhost_01k8zzzzzzzzzzzzzzzzzzzzzz"])
def test_what_is_not_there_is_told(alice: Caller, name: str) -> None:
    for answer in (
        alice.get(f"{PUBLICATIONS}/{name}"),
        alice.post(f"{PUBLICATIONS}/{name}/replay"),
    ):
        assert answer.status_code == 404
        assert (answer.json or {})["code"] == "publication_not_found"


def test_another_s_publications_are_not_there(
    house: TestGateway, alice: Caller, mallory: Caller
) -> None:
    del alice
    made = publish(house)
    for answer in (
        mallory.get(PUBLICATIONS),
        mallory.get(f"{PUBLICATIONS}/{made}"),
        mallory.post(f"{PUBLICATIONS}/{made}/replay"),
        mallory.get(SETTINGS),
        mallory.send("PUT", SETTINGS, json={}),
        mallory.get(f"{LAB}/batches/{made}/crate"),
    ):
        assert answer.status_code == 404
    assert house.by("mallory").post("/api/v1/projects", {"name": "mine"}).status_code == 201
    theirs = f"/api/v1/projects/mine/publications/{made}"
    assert mallory.get(theirs).status_code == 404
    assert mallory.post(f"{theirs}/replay").status_code == 404


def test_settings_have_defaults_and_are_changed_as_a_whole(alice: Caller) -> None:
    assert alice.get(SETTINGS).json == PublicationSettings().model_dump(mode="json")
    person = {"first_name": "Alice", "last_name": "Liddell", "email": "a@example.org"}
    wanted = {"license": "CC-BY-4.0", "access_mode": "Free", "contact": person}
    changed = alice.send("PUT", SETTINGS, json=wanted)
    assert changed.status_code == 200
    found = alice.get(SETTINGS).json or {}
    assert found == changed.json
    assert (found["license"], found["enabled"]) == ("CC-BY-4.0", True)
    assert found["contact"]["last_name"] == "Liddell"
    assert (alice.send("PUT", SETTINGS, json={"enabled": False}).json or {})["license"] == ""


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"access_mode": "Sometimes"}, "access_mode"),
        ({"licence": "CC-BY-4.0"}, "licence"),
        ({"keywords": [1]}, "keywords.0"),
        ({"contact": {"mail": "x"}}, "contact.mail"),
        ({"license": "x" * 501}, "license"),
    ],
)
def test_a_wrong_setting_is_named(alice: Caller, body: dict[str, Any], field: str) -> None:
    answer = alice.send("PUT", SETTINGS, json=body)
    assert answer.status_code == 422
    assert [error["field"] for error in (answer.json or {})["errors"]] == [field]


def test_other_settings_of_the_project_stay(house: TestGateway, alice: Caller) -> None:
    with house.services.pool.connection() as connection:
        connection.execute("""UPDATE projects SET settings = '{"queues": {"lab.own": {}}}'""")
    alice.send("PUT", SETTINGS, json={"license": "MIT"})
    assert "lab.own" in ((alice.get(LAB).json or {})["queues"])


def test_a_batch_shows_its_publication_and_a_job_what_it_made(
    house: TestGateway, alice: Caller
) -> None:
    batch = a_batch(alice, house)
    assert (alice.get(f"{LAB}/batches/{batch}").json or {})["publication"] is None
    publish(house, id=batch, state="published", internal_id=7, portal_url="https://portal/7")
    shown = (alice.get(f"{LAB}/batches/{batch}").json or {})["publication"]
    assert (shown["state"], shown["internal_id"], shown["portal_url"]) == (
        "published",
        7,
        "https://portal/7",
    )
    job = (alice.get(f"{LAB}/batches/{batch}/results").json or {})["items"][0]["job_id"]
    assert (alice.get(f"/api/v1/jobs/{job}").json or {})["publications"] == []
    with house.services.pool.connection() as connection:
        connection.execute("UPDATE jobs SET kind = 'openstack' WHERE id = %s", [job])
    server = publish(house, id=ids.new(ids.RESOURCE), what="server", job_id=job)
    (made,) = (alice.get(f"/api/v1/jobs/{job}").json or {})["publications"]
    assert (made["id"], made["what"]) == (server, "server")


def test_a_finished_batch_s_provenance_is_a_valid_crate(house: TestGateway, alice: Caller) -> None:
    batch = a_batch(alice, house)
    alice.send("PUT", SETTINGS, json={"license": "CC-BY-4.0", "keywords": ["QKD"]})
    publish(house, id=batch, state="published", internal_id=7, portal_url="https://portal/7")
    answer = alice.get(f"{LAB}/batches/{batch}/crate")
    assert (answer.status_code, answer.mimetype) == (200, "application/zip")
    crate = zipfile.ZipFile(io.BytesIO(answer.data))
    document = json.loads(crate.read("ro-crate-metadata.json"))
    assert check(document, set(crate.namelist())) == []
    root = next(entity for entity in document["@graph"] if entity["@id"] == "./")
    assert root["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}
    assert root["sameAs"] == {"@id": "https://portal/7"}
    table = alice.get(f"{LAB}/batches/{batch}/results?format=csv").data
    assert crate.read("results.csv") == table
    assert alice.get(f"{LAB}/batches/{batch}/crate").data == answer.data


def test_a_batch_that_is_not_over_has_no_provenance_yet(house: TestGateway, alice: Caller) -> None:
    batch = a_batch(alice, house, finished=False)
    answer = alice.get(f"{LAB}/batches/{batch}/crate")
    assert (answer.status_code, (answer.json or {})["code"]) == (409, "batch_active")
    for name in ("nothing", ids.new(ids.BATCH)):
        assert alice.get(f"{LAB}/batches/{name}/crate").status_code == 404


def test_who_made_a_batch_is_kept_by_what_their_token_says() -> None:
    issuer = Issuer(issuer="https://account.example", audience="a", jwks="keys.json")
    claims = {
        "sub": "user_1",
        "exp": 1,
        "first_name": "Alice",
        "family_name": "Lid\x00dell",
        "email": "a@example.org",
        "affiliation": "QKD lab",
        "name": 7,
    }
    assert of_claims(claims, issuer).as_creator() == {
        "sub": "user_1",
        "iss": "https://account.example",
        "experiment": None,
        "given_name": "Alice",
        "family_name": "Liddell",
        "email": "a@example.org",
        "organization": "QKD lab",
    }
