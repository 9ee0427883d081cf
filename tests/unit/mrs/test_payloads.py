"""Every payload: its schema, its order, and what of a completion stands in it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from qslice import ids
from qslice.messages.completion import Completion, PublicationSettings
from qslice_mrs.client import READ_ONLY, body_of
from qslice_mrs.payloads import models
from qslice_mrs.payloads.build import document
from qslice_mrs.registrar import merged, revision_of
from qslice_mrs_testbed import contract

AT = datetime(2026, 3, 1, 9, 0, 0, 500_000, tzinfo=UTC)
COMMIT = "c" * 40

#: As the registry's own guide sends a virtual machine: the fields that each object has.
GUIDE = [
    "$type",
    "identifier",
    "name",
    "description",
    "resourceType",
    "createdAt",
    "version",
    "creators",
    "contributors",
    "accessType",
    "accessMode",
    "accessRights",
    "rights",
    "license",
    "licenseUri",
    "primaryLanguages",
    "otherLanguages",
    "keywords",
    "subjects",
    "requiredObjects",
    "relatedObjects",
]
#: And a data set has beside them.
OF_A_DATASET = [
    "copyrightsHolder",
    "dateTimeStart",
    "dateTimeEnd",
    "scientificDomains",
    "scientificSubdomains",
    "provenance",
    "format",
    "byteSize",
    "downloadUrl",
]

PERSON = {
    "type": "object",
    "required": ["firstName", "lastName", "email", "organization", "website"],
    "properties": {
        key: {"type": "string"}
        for key in ["firstName", "lastName", "email", "organization", "website", "orcId"]
    },
    "additionalProperties": False,
}
TEXTS = {"type": "array", "items": {"type": "string"}}
MOMENT = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": GUIDE,
    "properties": {
        **{name: {"type": "string"} for name in (*GUIDE[:4], "version", "license", "provenance")},
        "resourceType": {"enum": list(models.TYPES)},
        "createdAt": MOMENT,
        "dateTimeStart": MOMENT,
        "dateTimeEnd": MOMENT,
        "creators": {"type": "array", "items": PERSON, "minItems": 1},
        "contributors": {"type": "array", "items": PERSON},
        "accessType": {"enum": ["Remote", "Physical", "Virtual", "Other"]},
        "accessMode": {"enum": ["Free", "FreeConditionally", "ExcellenceBased"]},
        **dict.fromkeys(["primaryLanguages", "otherLanguages", "keywords", "subjects"], TEXTS),
        "relatedObjects": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["identifier", "relationshipType", "resourceType"],
                "properties": {
                    "identifier": {"type": "object", "required": ["value"]},
                    "relationshipType": {"type": "string"},
                    "resourceType": {"type": "string"},
                },
                "additionalProperties": False,
            },
        },
        "contact": PERSON,
        "publicContact": PERSON,
        "byteSize": {"type": "integer", "minimum": 0},
    },
}


def completion(**given: Any) -> Completion:
    return Completion.of(
        {
            "identifier": "r_localhost_01k8zzzzzzzzzzzzzzzzzzzzzz",
            "project": "lab",
            "what": "server",
            "event": "created",
            "name": "vm1",
            "created_at": AT,
            "at": AT,
            **given,
        }
    )


def a_batch(**given: Any) -> Completion:
    dataset = {
        "format": "text/csv",
        "bytes": 1234,
        "sha256": "d" * 64,
        "download_url": "https://qslice.example/results?format=csv",
        "provenance_url": "https://qslice.example/crate",
        "time_start": AT,
        "time_end": AT,
    }
    software = {
        "repository": "git@git.example:qkd/bb84.git",
        "commit": COMMIT,
        "image": "sha256:" + "e" * 64,
        "command": ["python", "bb84.py", "--distance", "{distance}"],
    }
    return completion(
        **{
            "identifier": "batch_localhost_01k8zzzzzzzzzzzzzzzzzzzzzz",
            "what": "batch",
            "event": "finished",
            "name": "key rate",
            "dataset": dataset,
            "software": [software],
            "counts": {"succeeded": 58, "failed": 2},
            "experiment": "exp_1",
            "related": [
                {
                    "identifier": "r_localhost_01k8zzzzzzzzzzzzzzzzzzzzzz",
                    "relation": "IsDerivedFrom",
                    "what": "Equipment",
                }
            ],
            **given,
        }
    )


def check(found: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(found)
    contract.read(body_of(found), update=False)


@pytest.mark.parametrize("name", models.TYPES)
def test_each_type_is_a_valid_object_with_its_type_first(name: str) -> None:
    dataset = {
        "date_time_start": "2026-03-01T09:00:00.000Z",
        "date_time_end": "2026-03-01T09:00:00.000Z",
        "format": "text/csv",
        "byte_size": 1,
        "download_url": "https://x",
    }
    made = models.TYPES[name](
        **{
            "type_": name,
            "identifier": "a",
            "name": "n",
            "resource_type": name,
            "created_at": "2026-03-01T09:00:00.000Z",
            "version": "1.0",
            "creators": [models.Contact(last_name="L")],
            "access_type": "Remote",
            "access_mode": "Free",
            "access_rights": "Open",
            "rights": "Standard",
            "keywords": [],
            **(dataset if issubclass(models.TYPES[name], models.Dataset) else {}),
        }
    ).document()
    assert next(iter(made)) == "$type"
    assert [key for key in GUIDE if key in made] == GUIDE
    check(made)


def test_a_type_takes_no_field_that_it_does_not_have() -> None:
    with pytest.raises(ValidationError, match="colour"):
        models.Contact(colour="red")  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", ["Base", "Resource", "Service"])
@pytest.mark.parametrize("event", ["created", "ended"])
def test_a_resource_is_an_object_of_the_type_that_the_project_chose(kind: str, event: str) -> None:
    made = document(
        completion(
            event=event,
            image="debian-12",
            flavour="m1.small",
            site="be-gent1",
            ended_at=AT if event == "ended" else None,
            settings={"resource_type": kind},
        )
    )
    check(made)
    assert (made["$type"], made["name"]) == (kind, "Virtual machine vm1")
    for part in ("image debian-12", "flavour m1.small", "At be-gent1", "Project lab"):
        assert part in made["description"]
    assert ("ended" in made["keywords"]) == (event == "ended")
    assert ("exists no more" in made["description"]) == (event == "ended")


def test_a_batch_is_a_dataset_with_size_checksum_times_and_address() -> None:
    made = document(a_batch())
    check(made)
    assert [name for name in OF_A_DATASET if name not in made] == []
    assert (made["$type"], made["byteSize"], made["format"]) == ("Dataset", 1234, "text/csv")
    assert made["fileMetadata"] == "sha256:" + "d" * 64
    assert made["dateTimeStart"] == "2026-03-01T09:00:00.500Z"
    assert made["downloadUrl"] == "https://qslice.example/results?format=csv"
    for part in ("60 runs: 2 failed, 58 succeeded", "{distance}", COMMIT, "experiment exp_1"):
        assert part in made["description"]
    assert "RO-Crate: https://qslice.example/crate" in made["provenance"]


def test_a_dataset_links_to_the_software_and_the_resources_that_made_it() -> None:
    software, resource = document(a_batch())["relatedObjects"]
    assert software == {
        "identifier": {
            "type": "URL",
            "value": f"git+ssh://git@git.example/qkd/bb84.git@{COMMIT}",
        },
        "relationshipType": "IsCompiledBy",
        "resourceType": "Software",
    }
    assert resource["identifier"] == {"value": "r_localhost_01k8zzzzzzzzzzzzzzzzzzzzzz"}
    texts = document(a_batch(), "text")["relatedObjects"]
    assert texts[1] == "r_localhost_01k8zzzzzzzzzzzzzzzzzzzzzz"
    assert document(a_batch(), "none")["relatedObjects"] == []


def test_the_creators_are_the_token_s_then_the_project_s_then_the_project() -> None:
    alice = {"first_name": "Alice", "last_name": "Liddell", "organization": "QKD lab"}
    bob = {"first_name": "Bob", "last_name": "B", "orcid": "0000-0002-1825-0097"}
    settings = {"creators": [bob]}
    made = document(a_batch(creators=[alice], settings=settings))
    assert made["creators"][0]["lastName"] == "Liddell"
    assert made["copyrightsHolder"] == "QKD lab"
    (second,) = document(a_batch(settings=settings))["creators"]
    assert (second["lastName"], second["orcId"]) == ("B", "0000-0002-1825-0097")
    assert document(a_batch())["creators"][0]["lastName"] == "Project lab"


def test_access_licence_and_words_come_from_the_project_s_settings() -> None:
    settings = PublicationSettings(
        access_type="Virtual",
        access_mode="Free",
        access_rights="Open access",
        license="CC-BY-4.0",
        license_uri="https://creativecommons.org/licenses/by/4.0/",
        keywords=["QKD", "lab"],
        languages=["en", "fr"],
        location="Reims",
        copyright_holder="The lab",
    )
    made = document(a_batch(settings=settings.model_dump()))
    check(made)
    assert (made["accessType"], made["accessMode"], made["license"]) == (
        "Virtual",
        "Free",
        "CC-BY-4.0",
    )
    assert made["primaryLanguages"] == ["en", "fr"]
    assert made["locations"] == [{"locationName": "Reims"}]
    assert made["copyrightsHolder"] == "The lab"
    assert made["keywords"].count("lab") == 1
    assert "QKD" in made["keywords"]


def test_our_identifier_is_the_first_keyword() -> None:
    assert document(a_batch())["keywords"][0] == "batch_localhost_01k8zzzzzzzzzzzzzzzzzzzzzz"


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.text(max_size=50),
            "description": st.text(max_size=200),
            "experiment": st.text(max_size=20),
            "site": st.text(max_size=20),
            "image": st.text(max_size=20),
            "revision": st.integers(1, 10**8),
        },
    )
)
def test_whatever_a_completion_says_its_document_is_valid_and_always_the_same(
    given: dict[str, Any],
) -> None:
    one, two = document(completion(**given)), document(completion(**given))
    assert body_of(one) == body_of(two)
    check(one)
    assert revision_of(one) == given.get("revision", 1)


def test_the_type_comes_first_whatever_the_order_and_read_only_fields_stay_out() -> None:
    given = {"name": "n", "internalIdentifier": 7, "metadataProfile": "V", "$type": "Base"}
    assert body_of(given) == b'{"$type":"Base","name":"n"}'
    with_nulls = orjson.loads(body_of(given, read_only_null=True))
    assert next(iter(with_nulls)) == "$type"
    assert {name: with_nulls[name] for name in READ_ONLY} == dict.fromkeys(READ_ONLY)


def test_an_update_keeps_type_identifier_and_what_others_wrote() -> None:
    there = {
        "$type": "Base",
        "resourceType": "Base",
        "identifier": "the server's",
        "internalIdentifier": 7,
        "restrictions": "none",
        "name": "old",
    }
    ours = {"$type": "Resource", "resourceType": "Resource", "identifier": "ours", "name": "new"}
    assert merged(there, ours) == {
        "$type": "Base",
        "resourceType": "Base",
        "identifier": "the server's",
        "restrictions": "none",
        "name": "new",
    }


@pytest.mark.parametrize(
    ("version", "revision"), [("3.0", 3), ("12", 12), ("", 0), (None, 0), ("v1", 0), ("1.0-b", 0)]
)
def test_a_revision_is_read_from_the_version(version: str | None, revision: int) -> None:
    assert revision_of({"version": version}) == revision


def test_identifiers_in_examples_are_type_ids() -> None:
    assert ids.parse(completion().identifier)[0] == ids.RESOURCE
