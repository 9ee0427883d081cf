"""The client and the registrar against the stand-in: every quirk, every failure."""

import asyncio
import datetime as dt
import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from qslice_mrs.client import MrsClient
from qslice_mrs.errors import Refused, Unavailable
from qslice_mrs.finder import Finder
from qslice_mrs.payloads.build import document
from qslice_mrs.registrar import Registrar
from qslice_mrs.settings import MrsSettings

from tests.support.mrs import (
    AUDIENCE,
    CLIENT_ID,
    OTHER_CLIENT_ID,
    Mrs,
    changed,
    completion,
    start_mrs,
)
from tests.support.processes import ProcessStarter, pick_free_port


def settings(mrs: Mrs, **given: Any) -> MrsSettings:
    return MrsSettings.model_validate(
        {
            "amqp_url": "amqp://none",
            "mrs_url": mrs.url,
            "mrs_client_id": CLIENT_ID,
            "mrs_client_secret": mrs.secret,
            "mrs_audience": AUDIENCE,
            "mrs_timeout_s": 5,
            **given,
        }
    )


@pytest.fixture
async def client(mrs: Mrs) -> AsyncIterator[MrsClient]:
    made = MrsClient(settings(mrs))
    yield made
    await made.close()


def registrar_of(client: MrsClient, batch: int = 24) -> tuple[Registrar, Finder]:
    finder = Finder(client, batch)
    return Registrar(client, finder), finder


@pytest.mark.parametrize("older_build", [False, True])
async def test_a_create_gives_the_id_of_either_build(
    mrs: Mrs, client: MrsClient, older_build: bool
) -> None:
    mrs.build(create_answers_object=older_build)
    made = completion()
    number = await client.create(document(made))
    assert [entry["internalIdentifier"] for entry in mrs.objects(made.identifier)] == [number]


@pytest.mark.parametrize("nulls", [True, False])
async def test_an_update_takes_the_form_that_the_build_wants_and_keeps_to_it(
    mrs: Mrs, client: MrsClient, nulls: bool
) -> None:
    mrs.build(read_only_null=nulls)
    registrar, _ = registrar_of(client)
    for _ in range(2):
        made = completion()
        await registrar.register(made.identifier, 1, document(made))
        before = mrs.requests().get("update", 0)
        ended = changed(made, revision=2, name="renamed")
        done = await registrar.register(made.identifier, 2, document(ended))
        assert done.action == "updated"
        after = mrs.requests()["update"]
    assert after - before == 1
    (there,) = mrs.objects(made.identifier)
    assert (there["version"], there["name"]) == ("2.0", "Virtual machine renamed")


async def test_what_others_wrote_into_an_object_survives_our_update(
    mrs: Mrs, client: MrsClient
) -> None:
    registrar, _ = registrar_of(client)
    made = completion()
    first = await registrar.register(made.identifier, 1, document(made))
    (there,) = mrs.objects(made.identifier)
    await client.replace(first.internal_id, there | {"citationRequirements": "cite us"})
    await registrar.register(made.identifier, 2, document(changed(made, revision=2)))
    assert mrs.objects(made.identifier)[0]["citationRequirements"] == "cite us"


async def test_an_older_revision_never_overwrites_a_newer(mrs: Mrs, client: MrsClient) -> None:
    registrar, _ = registrar_of(client)
    made = completion()
    ended = changed(made, revision=2, event="ended", ended_at=made.at)
    assert (await registrar.register(made.identifier, 2, document(ended))).action == "created"
    assert (await registrar.register(made.identifier, 1, document(made))).action == "unchanged"
    (there,) = mrs.objects(made.identifier)
    assert there["version"] == "2.0"
    assert "ended" in there["keywords"]


async def test_a_repetition_changes_nothing(mrs: Mrs, client: MrsClient) -> None:
    registrar, _ = registrar_of(client)
    made = completion()
    actions = [
        (await registrar.register(made.identifier, 1, document(made))).action for _ in range(3)
    ]
    assert actions == ["created", "unchanged", "unchanged"]
    assert len(mrs.objects(made.identifier)) == 1


async def test_an_object_is_found_though_the_server_replaced_its_identifier(
    mrs: Mrs, client: MrsClient
) -> None:
    mrs.build(generates_identifier=True)
    registrar, _ = registrar_of(client)
    made = completion()
    assert (await registrar.register(made.identifier, 1, document(made))).action == "created"
    later = document(changed(made, revision=2))
    assert (await registrar.register(made.identifier, 2, later)).action == "updated"
    (there,) = mrs.objects(made.identifier)
    assert there["identifier"] != made.identifier
    assert there["version"] == "2.0"


async def test_look_ups_that_wait_share_a_search(mrs: Mrs, client: MrsClient) -> None:
    registrar, finder = registrar_of(client)
    first = [completion() for _ in range(2)]
    for made in first:
        await registrar.register(made.identifier, 1, document(made))
    assert finder.proven
    before = mrs.requests()["search"]
    many = [completion() for _ in range(100)]
    found = await asyncio.gather(*(finder.find(made.identifier) for made in (*many, *first)))
    assert [len(numbers) for numbers in found] == [0] * 100 + [1, 1]
    assert mrs.requests()["search"] - before < 20


async def test_a_server_that_does_not_understand_joined_searches_gets_single_ones(
    mrs: Mrs, client: MrsClient
) -> None:
    mrs.build(boolean_search=False)
    finder = Finder(client, 24)
    many = [completion() for _ in range(6)]
    for made in many:
        number = await client.create(document(made))
        await finder.exists(made.identifier, number)
    assert not finder.proven


async def test_a_search_goes_through_all_pages(mrs: Mrs, client: MrsClient) -> None:
    made = completion()
    for _ in range(103):
        await client.create(document(made))
    assert len(await Finder(client, 24).find(made.identifier)) == 103


async def test_a_second_object_is_removed_and_the_newest_stays(mrs: Mrs, client: MrsClient) -> None:
    registrar, _ = registrar_of(client)
    made = completion()
    for revision in (1, 2, 2):
        await client.create(document(changed(made, revision=revision)))
    numbers = [entry["internalIdentifier"] for entry in mrs.objects(made.identifier)]
    settled = await registrar.settle(made.identifier)
    assert settled is not None
    (there,) = mrs.objects(made.identifier)
    assert there["internalIdentifier"] == settled.internal_id == numbers[1]


async def test_one_token_serves_many_requests_at_once(mrs: Mrs, client: MrsClient) -> None:
    before = mrs.requests().get("token", 0)
    await asyncio.gather(*(client.create(document(completion())) for _ in range(20)))
    assert mrs.requests()["token"] - before == 1


async def test_a_token_is_asked_for_anew_before_it_expires(mrs: Mrs, client: MrsClient) -> None:
    mrs.build(token_life_s=2)
    before = mrs.requests().get("token", 0)
    await client.create(document(completion()))
    await asyncio.sleep(1.5)  # More than half of its life: it is not used any more.
    await client.create(document(completion()))
    assert mrs.requests()["token"] - before == 2


async def test_a_refused_token_is_asked_for_anew_once(mrs: Mrs, client: MrsClient) -> None:
    await client.create(document(completion()))
    before = mrs.requests()["token"]
    mrs.forget_tokens()
    await asyncio.gather(*(client.create(document(completion())) for _ in range(10)))
    assert mrs.requests()["token"] - before == 1
    mrs.fail("status", "create", status=401)
    with pytest.raises(Unavailable, match="does not let us"):
        await client.create(document(completion()))


async def test_a_token_for_another_audience_is_told_by_its_name(mrs: Mrs) -> None:
    wrong = MrsClient(settings(mrs, mrs_client_id=OTHER_CLIENT_ID))
    with pytest.raises(Unavailable, match="audience mapper"):
        await wrong.create(document(completion()))
    await wrong.close()


async def test_a_wrong_secret_is_tried_again_since_it_can_be_mended(mrs: Mrs) -> None:
    wrong = MrsClient(settings(mrs, mrs_client_secret="wrong"))
    with pytest.raises(Unavailable, match="token endpoint refused") as failed:
        await wrong.create(document(completion()))
    assert "wrong" not in failed.value.message.replace("refused", "")
    await wrong.close()


@pytest.mark.parametrize(
    ("fault", "code", "doubtful"),
    [
        ({"kind": "status", "status": 503}, "mrs_unavailable", True),
        ({"kind": "status", "status": 429, "retry_after": 7}, "mrs_busy", False),
        ({"kind": "down"}, "mrs_unavailable", True),
        ({"kind": "stored"}, "mrs_unavailable", True),
        ({"kind": "status", "status": 403}, "mrs_unauthorized", False),
    ],
)
async def test_a_failure_tells_whether_the_object_may_have_been_stored(
    mrs: Mrs, client: MrsClient, fault: dict[str, Any], code: str, doubtful: bool
) -> None:
    mrs.fail(scope="create", **fault)
    with pytest.raises(Unavailable) as failed:
        await client.create(document(completion()))
    assert (failed.value.code, failed.value.doubtful) == (code, doubtful)
    assert failed.value.retry_after_s == (7 if code == "mrs_busy" else None)


async def test_a_registry_that_is_not_there_stored_nothing(mrs: Mrs) -> None:
    nowhere = settings(
        mrs,
        mrs_url=f"http://127.0.0.1:{pick_free_port()}",
        mrs_token_url=(f"{mrs.url}/realms/slices/protocol/openid-connect/token"),
    )
    client = MrsClient(nowhere)
    with pytest.raises(Unavailable) as failed:
        await client.create(document(completion()))
    assert not failed.value.doubtful
    await client.close()


async def test_a_slow_answer_is_not_waited_for_for_ever(mrs: Mrs) -> None:
    hasty = MrsClient(settings(mrs, mrs_timeout_s=0.3))
    made = completion()
    mrs.fail("stored", "create", delay_s=1.5)
    with pytest.raises(Unavailable) as failed:
        await hasty.create(document(made))
    assert failed.value.doubtful
    assert len(mrs.objects(made.identifier)) == 1
    await hasty.close()


async def test_a_refusal_holds_the_server_s_answer(mrs: Mrs, client: MrsClient) -> None:
    with pytest.raises(Refused, match="createdAt") as refused:
        await client.create(document(completion()) | {"createdAt": "yesterday"})
    assert refused.value.status == 400


async def test_tls_is_verified_and_an_own_authority_can_be_named(
    start_process: ProcessStarter, tmp_path: Path
) -> None:
    certificate, key = own_certificate(tmp_path)
    mrs = start_mrs(
        start_process,
        tmp_path / "state",
        "--tls-certificate",
        str(certificate),
        "--tls-key",
        str(key),
        verify=str(certificate),
    )
    strange = MrsClient(settings(mrs))
    with pytest.raises(Unavailable, match=r"(?i)certificate"):
        await strange.create(document(completion()))
    await strange.close()
    known = MrsClient(settings(mrs, mrs_ca_file=certificate))
    assert await known.create(document(completion())) == 1
    await known.close()


def own_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stand-in")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "ca.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, private
