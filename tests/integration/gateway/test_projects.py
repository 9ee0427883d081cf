"""Projects over REST: made, listed, deleted, each with its own RabbitMQ user."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pika
import pytest
from pika.exceptions import AMQPConnectionError, ChannelClosedByBroker, UnroutableError
from qslice import names

from tests.support.gateway import RUN, Caller, TestGateway, Tokens, gateway
from tests.support.issuers import AUDIENCE, TestIssuer
from tests.support.wait import wait_for


def connect(url: str) -> pika.BlockingConnection:
    return pika.BlockingConnection(pika.URLParameters(url))


def exists(broker_url: str, queue: str) -> bool:
    with connect(broker_url) as connection:
        channel = connection.channel()
        try:
            channel.queue_declare(queue, passive=True)
        except ChannelClosedByBroker:
            return False
        return True


def test_a_project_is_made_with_its_queues(house: TestGateway, broker_url: str) -> None:
    answer = house.by("alice").post("/api/v1/projects", {"name": "lab"})
    assert answer.status_code == 201
    assert answer.json is not None
    assert answer.json["owner"] == "alice"
    assert answer.json["id"].startswith("proj_localhost_")
    assert tuple(answer.json["queues"]) == names.queues("lab")
    assert all(exists(broker_url, queue) for queue in names.queues("lab"))


def test_making_it_again_answers_the_same(alice: Caller) -> None:
    again = alice.post("/api/v1/projects", {"name": "lab"})
    assert again.status_code == 200
    assert again.json == (alice.get("/api/v1/projects").json or {})["items"][0]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "Lab"}, "name"),
        ({"name": "a.b"}, "name"),
        ({"name": "qslice"}, "name"),
        ({"name": "lab\n"}, "name"),
        ({"name": ""}, "name"),
        ({"name": 7}, "name"),
        ({}, "name"),
        ({"name": "ok", "colour": "red"}, "colour"),
    ],
    ids=str,
)
def test_a_wrong_body_is_refused_by_its_field(
    house: TestGateway, body: dict[str, object], field: str
) -> None:
    answer = house.by("alice").post("/api/v1/projects", body)
    assert answer.status_code == 422
    assert answer.json is not None
    assert [error["field"] for error in answer.json["errors"]] == [field]


def test_where_tokens_name_projects_no_others_can_be_made(
    tokens: Tokens, database_url: str, broker_url: str, management_url: str
) -> None:
    issuer = TestIssuer()
    file = tokens.key_file.with_name("keys.json")
    file.write_bytes(issuer.document())
    configured = {"issuer": issuer.name, "audience": AUDIENCE, "jwks": str(file)}
    with gateway(tokens, database_url, broker_url, management_url, issuers=[configured]) as house:
        bob = house.with_token(issuer.token(sub="bob", proj_name=["lab"]))
        refused = bob.post("/api/v1/projects", {"name": "others"})
        assert (refused.status_code, refused.json and refused.json["code"]) == (403, "forbidden")
        assert bob.post("/api/v1/projects", {"name": "lab"}).status_code == 201


def test_projects_are_listed_page_by_page(house: TestGateway) -> None:
    alice = house.by("alice")
    wanted = [f"p{number}" for number in range(5)]
    for name in wanted:
        alice.post("/api/v1/projects", {"name": name})
    found, cursor = [], ""
    while cursor is not None:
        page = (
            alice.get(f"/api/v1/projects?limit=2&cursor={cursor}").json
            if cursor
            else (alice.get("/api/v1/projects?limit=2").json)
        )
        assert page is not None
        assert len(page["items"]) <= 2
        found += [project["name"] for project in page["items"]]
        cursor = page["next"]
    assert found == wanted


def test_a_project_with_jobs_is_deleted_only_by_force(
    house: TestGateway, alice: Caller, broker_url: str
) -> None:
    job = (alice.post("/api/v1/projects/lab/jobs", RUN).json or {})["job_id"]
    refused = alice.delete("/api/v1/projects/lab")
    assert (refused.status_code, refused.json and refused.json["code"]) == (409, "project_busy")
    assert alice.delete("/api/v1/projects/lab?force=true").status_code == 204
    assert alice.get("/api/v1/projects/lab").status_code == 404
    assert not any(exists(broker_url, queue) for queue in names.queues("lab"))
    with house.services.pool.connection() as connection:
        row = connection.execute("SELECT state FROM jobs WHERE id = %s", [job]).fetchone()
    assert row is not None
    assert row["state"] == "cancelled"


class TestBrokerUser:
    """A lab's RabbitMQ user on the real broker."""

    @pytest.fixture
    def lab_url(self, alice: Caller) -> str:
        answer = alice.post("/api/v1/projects/lab/broker-user")
        assert answer.status_code == 201
        assert answer.json is not None
        return str(answer.json["amqp_url"])

    @pytest.fixture
    def lab(self, lab_url: str) -> Iterator[pika.BlockingConnection]:
        with connect(lab_url) as connection:
            yield connection

    def test_it_publishes_to_its_own_project_and_no_other(
        self, house: TestGateway, lab: pika.BlockingConnection
    ) -> None:
        house.by("bob").post("/api/v1/projects", {"name": "other"})
        channel = lab.channel()
        channel.confirm_delivery()
        for key in ("lab.ToDo", "lab.ToDo.openstack", "lab.ToDo.k8s"):
            channel.basic_publish(names.EXCHANGE_TODO, key, b"{}", mandatory=True)
        for exchange, key in [
            (names.EXCHANGE_TODO, "other.ToDo"),
            (names.EXCHANGE_TODO, "lab.ToDo.evil"),
            (names.EXCHANGE_DONE, "lab.run.succeeded"),
            (names.EXCHANGE_EVENTS, "lab.run.started"),
            (names.EXCHANGE_CONTROL, ""),
            (names.EXCHANGE_DEAD, "other.Dead"),
            ("", "other.ToDo"),
            ("", "lab.ToDo"),
        ]:
            channel = lab.channel()
            channel.confirm_delivery()
            with pytest.raises((ChannelClosedByBroker, UnroutableError)) as refused:
                channel.basic_publish(exchange, key, b"{}", mandatory=True)
            assert refused.type is ChannelClosedByBroker, (exchange, key)
            assert refused.value.reply_code == 403

    def test_it_reads_its_own_done_and_dead_and_no_other_queue(
        self, house: TestGateway, lab: pika.BlockingConnection
    ) -> None:
        house.by("bob").post("/api/v1/projects", {"name": "other"})
        for queue in ("lab.Done", "lab.Dead"):
            assert lab.channel().basic_get(queue)[0] is None
        for queue in ("lab.ToDo", "other.Done", "other.Dead", names.QUEUE_RPC, names.QUEUE_DONE):
            with pytest.raises(ChannelClosedByBroker) as refused:
                lab.channel().basic_get(queue)
            assert refused.value.reply_code == 403, queue

    def test_it_makes_binds_purges_and_deletes_nothing(self, lab: pika.BlockingConnection) -> None:
        attempts: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
            ("queue_declare", ("lab.mine",), {}),
            ("queue_declare", ("",), {"exclusive": True}),
            ("queue_delete", ("lab.Done",), {}),
            ("queue_purge", ("lab.ToDo",), {}),
            ("exchange_declare", ("lab.exchange",), {}),
            ("queue_bind", ("lab.Done", names.EXCHANGE_DONE, "#"), {}),
        ]
        for method, values, named in attempts:
            with pytest.raises(ChannelClosedByBroker) as refused:
                getattr(lab.channel(), method)(*values, **named)
            assert refused.value.reply_code == 403

    def test_a_new_password_ends_the_old_one_and_its_connections(
        self, alice: Caller, lab_url: str, lab: pika.BlockingConnection
    ) -> None:
        renewed = (alice.post("/api/v1/projects/lab/broker-user").json or {})["amqp_url"]
        assert renewed != lab_url
        with pytest.raises(AMQPConnectionError):
            connect(lab_url)
        with connect(renewed) as connection:
            assert connection.is_open

        def is_cut() -> bool:
            try:
                lab.process_data_events(time_limit=0)
            except AMQPConnectionError:
                return True
            return False

        wait_for(is_cut, 60, "the old connection's end")

    def test_it_goes_with_its_project(self, alice: Caller, lab_url: str) -> None:
        assert alice.delete("/api/v1/projects/lab").status_code == 204
        with pytest.raises(AMQPConnectionError):
            connect(lab_url)

    def test_the_password_is_shown_once(self, alice: Caller, lab_url: str) -> None:
        password = urlsplit(lab_url).password
        assert password is not None
        shown = alice.get("/api/v1/projects/lab")
        assert password not in shown.text
        assert (shown.json or {})["broker_user_at"] is not None

    def test_a_user_that_was_not_made_here_is_left_alone(
        self, house: TestGateway, alice: Caller, management_url: str
    ) -> None:
        management = house.services.management
        assert management is not None
        user = management.username("lab")
        with httpx.Client(base_url=management_url, trust_env=False, timeout=60) as api:
            api.put(f"/api/users/{user}", json={"password": "x", "tags": "administrator"})
            try:
                assert alice.post("/api/v1/projects/lab/broker-user").status_code == 403
                assert api.get(f"/api/users/{user}").json()["tags"] == ["administrator"]
            finally:
                api.delete(f"/api/users/{user}")


def test_without_a_management_api_it_is_said_so(
    tokens: Tokens, database_url: str, broker_url: str, management_url: str
) -> None:
    with gateway(
        tokens, database_url, broker_url, management_url, rabbitmq_management_url=None
    ) as house:
        alice = house.by("alice")
        alice.post("/api/v1/projects", {"name": "lab"})
        answer = alice.post("/api/v1/projects/lab/broker-user")
        assert (answer.status_code, answer.json and answer.json["code"]) == (501, "not_configured")
