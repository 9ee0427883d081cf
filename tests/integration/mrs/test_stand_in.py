"""The stand-in is as strict as the real registry is known to be."""

import base64
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jwt
import orjson
import pytest

from tests.support.mrs import AUDIENCE, CLIENT_ID, OTHER_CLIENT_ID, Mrs, start_mrs
from tests.support.processes import ProcessStarter

OBJECTS = "/v0.2/digital-objects"
PERSON = {"firstName": "John", "lastName": "Doe", "email": "j.doe@example.com", "organization": "O"}


def payload(**given: Any) -> dict[str, Any]:
    """The payload that the registry's guide shows for a virtual machine."""
    return {
        "$type": "Base",
        "identifier": f"vm-{uuid4()}",
        "name": "VM2",
        "description": "Virtual Machine",
        "resourceType": "Base",
        "createdAt": "2025-07-09T00:00:00Z",
        "version": "1.0",
        "creators": [PERSON],
        "contributors": [],
        "accessType": "Remote",
        "accessMode": "Free",
        "accessRights": "Open access",
        "rights": "Standard usage rights apply.",
        "license": "",
        "licenseUri": "",
        "primaryLanguages": ["en"],
        "otherLanguages": [],
        "keywords": ["vm", "virtual machine", "test"],
        "subjects": ["computing"],
        "requiredObjects": [],
        "relatedObjects": [],
        "contact": PERSON,
        "publicContact": PERSON,
        **given,
    }


def token(mrs: Mrs, client_id: str = CLIENT_ID, **more: str) -> str:
    form = {"grant_type": "client_credentials", "client_id": client_id}
    response = httpx.post(
        f"{mrs.url}/realms/slices/protocol/openid-connect/token",
        data=form | {"client_secret": mrs.secret} | more,
        trust_env=False,
    )
    response.raise_for_status()
    return str(response.json()["access_token"])


def send(
    mrs: Mrs, method: str, path: str, body: bytes | dict[str, Any], bearer: str | None = None
) -> httpx.Response:
    return httpx.request(
        method,
        f"{mrs.url}{path}",
        content=body if isinstance(body, bytes) else orjson.dumps(body),
        headers={
            "Authorization": f"Bearer {bearer or token(mrs)}",
            "Content-Type": "application/json",
        },
        trust_env=False,
    )


def search(mrs: Mrs, query: str, path: str = "global", **more: Any) -> dict[str, Any]:
    response = httpx.get(
        f"{mrs.url}{OBJECTS}/search/{path}",
        params={"paginate": "True", "advancedQuery": query, **more},
        trust_env=False,
    )
    response.raise_for_status()
    return dict(response.json())


def test_a_create_answers_201_with_a_bare_integer_and_the_object_can_be_read_by_all(
    mrs: Mrs,
) -> None:
    sent = payload()
    answer = send(mrs, "POST", OBJECTS, sent)
    assert (answer.status_code, type(answer.json())) == (201, int)
    whole = httpx.get(f"{mrs.url}{OBJECTS}/{answer.json()}", trust_env=False).json()
    assert whole["internalIdentifier"] == answer.json()
    assert whole["metadataProfile"]
    assert {key: whole[key] for key in sent} == sent


def test_an_older_build_answers_200_with_the_object(mrs: Mrs) -> None:
    mrs.build(create_answers_object=True)
    answer = send(mrs, "POST", OBJECTS, payload())
    assert answer.status_code == 200
    assert isinstance(answer.json()["internalIdentifier"], int)


def test_a_body_whose_first_property_is_not_the_type_is_refused(mrs: Mrs) -> None:
    whole = payload()
    last = {key: whole[key] for key in whole if key != "$type"} | {"$type": "Base"}
    answer = send(mrs, "POST", OBJECTS, last)
    assert answer.status_code == 400
    assert "$type" in answer.text


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"$type": "Toaster"}, "$.$type"),
        ({"createdAt": "yesterday"}, "$.createdAt"),
        ({"accessType": "Nearby"}, "$.accessType"),
        ({"keywords": "vm"}, "$.keywords"),
        ({"creators": [{"firstName": "J"}]}, "$.creators[0]"),
        ({"internalIdentifier": 7}, "$.internalIdentifier"),
        ({"relatedObjects": [{"to": "x"}]}, "$.relatedObjects[0]"),
        ({"resourceType": "Dataset"}, "$.resourceType"),
    ],
)
def test_a_wrong_value_is_refused_by_its_path(mrs: Mrs, change: dict[str, Any], named: str) -> None:
    answer = send(mrs, "POST", OBJECTS, payload(**change))
    assert answer.status_code == 400
    assert named in answer.json()["errors"]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_an_update_needs_the_complete_object(mrs: Mrs, method: str) -> None:
    sent = payload()
    number = send(mrs, "POST", OBJECTS, sent).json()
    partial = send(mrs, method, f"{OBJECTS}/{number}", {"$type": "Base", "name": "new"})
    assert partial.status_code == 400
    assert "missing required properties: identifier" in partial.text
    without = send(mrs, method, f"{OBJECTS}/{number}", {**sent, "name": "new"})
    assert without.status_code == 400
    assert "systemCreationDate" in without.text
    nulls = dict.fromkeys(("internalIdentifier", "systemCreationDate", "metadataProfile"))
    assert send(
        mrs, method, f"{OBJECTS}/{number}", {"$type": "Base", **nulls, **sent, "name": "new"}
    ).is_success
    after = httpx.get(f"{mrs.url}{OBJECTS}/{number}", trust_env=False).json()
    assert (after["name"], after["internalIdentifier"]) == ("new", number)


def test_a_deleted_object_is_gone(mrs: Mrs) -> None:
    number = send(mrs, "POST", OBJECTS, payload()).json()
    assert send(mrs, "DELETE", f"{OBJECTS}/{number}", b"").status_code == 204
    assert send(mrs, "DELETE", f"{OBJECTS}/{number}", b"").status_code == 404


@pytest.mark.parametrize("bearer", ["garbage", "none", "other key", "other audience"])
def test_a_token_that_is_not_for_it_is_refused(mrs: Mrs, bearer: str) -> None:
    good = token(mrs)
    claims = jwt.decode(good, options={"verify_signature": False})
    tokens = {
        "garbage": "garbage",
        "none": jwt.encode(claims, "", algorithm="none"),
        "other key": jwt.encode(claims, "k" * 40, algorithm="HS256"),
        "other audience": token(mrs, OTHER_CLIENT_ID),
    }
    answer = send(mrs, "POST", OBJECTS, payload(), tokens[bearer])
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_write_without_a_token_is_refused(mrs: Mrs) -> None:
    answer = httpx.post(f"{mrs.url}{OBJECTS}", json=payload(), trust_env=False)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_an_expired_token_is_refused(mrs: Mrs) -> None:
    mrs.build(token_life_s=-10)
    answer = send(mrs, "POST", OBJECTS, payload())
    assert answer.status_code == 401
    assert "expired" in answer.headers["WWW-Authenticate"]


def test_tokens_are_signed_with_the_key_that_the_realm_publishes(mrs: Mrs) -> None:
    realm = f"{mrs.url}/realms/slices"
    found = httpx.get(f"{realm}/.well-known/openid-configuration", trust_env=False).json()
    keys = httpx.get(found["jwks_uri"], trust_env=False).json()
    key = jwt.PyJWKSet.from_dict(keys).keys[0]
    claims = jwt.decode(
        token(mrs), key.key, algorithms=["RS256"], audience=AUDIENCE, issuer=found["issuer"]
    )
    assert claims["azp"] == CLIENT_ID


def test_a_client_with_a_wrong_secret_gets_no_token(mrs: Mrs) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        token(mrs, client_secret="wrong")


def test_the_search_finds_by_name_identifier_and_keywords(mrs: Mrs) -> None:
    mark = uuid4().hex
    numbers = [
        send(
            mrs,
            "POST",
            OBJECTS,
            payload(identifier=f"a_{mark}_{n}", name=f"Tree {mark} {n}", keywords=[mark, f"k{n}"]),
        ).json()
        for n in range(3)
    ]

    def found(query: str) -> list[int]:
        return [item["internalIdentifier"] for item in search(mrs, query)["items"]]

    assert found(f'identifier:"a_{mark}_1"') == numbers[1:2]
    assert found(f"keywords:{mark}") == numbers
    assert found(f"keywords:{mark.upper()} AND keywords:k2") == numbers[2:]
    assert found(f"keywords:{mark} AND NOT keywords:k2") == numbers[:2]
    assert found(f"+keywords:{mark} -keywords:k0") == numbers[1:]
    assert found(f'name:"tree {mark}"') == numbers
    assert found(f"identifier:a_{mark}*") == numbers
    assert found(f'identifier:("a_{mark}_0" OR "a_{mark}_2")') == [numbers[0], numbers[2]]
    assert found(f"identifier:a_{mark}_0 OR keywords:k1") != []
    assert found("identifier:nowhere") == []


def test_a_search_comes_in_pages(mrs: Mrs) -> None:
    mark = uuid4().hex
    for _ in range(5):
        send(mrs, "POST", OBJECTS, payload(keywords=[mark]))
    pages = [search(mrs, f"keywords:{mark}", pageIndex=n, pageSize=2) for n in range(3)]
    assert [len(page["items"]) for page in pages] == [2, 2, 1]
    assert {page["total"] for page in pages} == {5}
    assert [page["currentPageIndex"] for page in pages] == [0, 1, 2]
    assert search(mrs, f"keywords:{mark}", pageSize=1000)["maxPerPage"] == 100


def test_a_search_by_type_finds_no_other(mrs: Mrs) -> None:
    mark = uuid4().hex
    send(mrs, "POST", OBJECTS, payload(keywords=[mark]))
    assert search(mrs, f"keywords:{mark}", "base")["total"] == 1
    assert search(mrs, f"keywords:{mark}", "datasets")["total"] == 0


@pytest.mark.parametrize("query", ["colour:red", "name:(", "name:[a TO b]"])
def test_a_query_that_it_does_not_answer_is_refused(mrs: Mrs, query: str) -> None:
    response = httpx.get(
        f"{mrs.url}{OBJECTS}/search/global", params={"advancedQuery": query}, trust_env=False
    )
    assert response.status_code == 400
    assert "advancedQuery" in response.text


def test_the_same_object_twice_is_two_objects(mrs: Mrs) -> None:
    twice = payload()
    numbers = {send(mrs, "POST", OBJECTS, twice).json() for _ in range(2)}
    assert len(numbers) == 2


def test_an_upload_stores_the_object_with_its_file_s_size(mrs: Mrs) -> None:
    times = dict.fromkeys(("dateTimeStart", "dateTimeEnd"), "2025-07-09T00:00:00Z")
    whole = payload(**{"$type": "Dataset", "resourceType": "Dataset"}, **times)
    answer = httpx.post(
        f"{mrs.url}{OBJECTS}/upload",
        files={"file": ("r.csv", b"a,b\n"), "metadata": (None, json.dumps(whole))},
        headers={"Authorization": f"Bearer {token(mrs)}"},
        trust_env=False,
    )
    assert answer.status_code == 201
    assert mrs.objects(whole["identifier"])[0]["byteSize"] == 4


def test_its_page_says_that_it_is_not_the_real_one_and_escapes_what_was_registered(
    mrs: Mrs,
) -> None:
    number = send(mrs, "POST", OBJECTS, payload(name="<script>alert(1)</script>")).json()
    for path in ("/", f"/app/management/digital-objects/view/{number}"):
        page = httpx.get(f"{mrs.url}{path}", trust_env=False)
        assert page.is_success
        assert "not the real" in page.text
        assert "<script>" not in page.text


def test_what_was_registered_is_there_after_a_restart(
    start_process: ProcessStarter, tmp_path: Path
) -> None:
    first = start_mrs(start_process, tmp_path)
    whole = payload()
    number = send(first, "POST", OBJECTS, whole).json()
    bearer = token(first)
    first.process.kill_all()
    second = start_mrs(start_process, tmp_path, listen=first.url.removeprefix("http://"))
    assert second.objects(whole["identifier"])[0]["internalIdentifier"] == number
    assert send(second, "POST", OBJECTS, payload(), bearer).status_code == 201


def test_it_keeps_its_objects_in_postgresql_where_told(
    start_process: ProcessStarter, tmp_path: Path, empty_database_url: str
) -> None:
    mrs = start_mrs(start_process, tmp_path, "--database", empty_database_url)
    whole = payload()
    number = send(mrs, "POST", OBJECTS, whole).json()
    assert (
        search(mrs, f'identifier:"{whole["identifier"]}"')["items"][0]["internalIdentifier"]
        == number
    )
    assert not (tmp_path / "registry.sqlite").exists()


def test_its_secrets_are_its_owner_s_alone(
    mrs: Mrs, start_process: ProcessStarter, tmp_path: Path
) -> None:
    start_mrs(start_process, tmp_path)
    for name in ("client-secret", "realm-key.pem"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
    header = base64.urlsafe_b64decode(token(mrs).split(".")[0] + "==")
    assert json.loads(header)["alg"] == "RS256"
