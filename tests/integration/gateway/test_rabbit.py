"""The course's queue API on a real broker."""

from __future__ import annotations

from typing import Any

import orjson
import pika
import pytest
from qslice import names, topology
from qslice.messages.run import read_run

from tests.support.gateway import RUN, Caller, TestGateway, Tokens, gateway

TASK = {
    "ID_projet": 1,
    "ID_tache": 3,
    "URL_git": "https://git.example/n_dames.git",
    "CMD": "python3 /n_dame.py",
}


def code(answer: Any) -> tuple[int, str | None]:
    return answer.status_code, answer.json and answer.json.get("code")


@pytest.mark.parametrize("key", ["queue", "nom", "file", "file_name"])
def test_a_queue_is_made_under_any_of_the_keys_and_again(alice: Caller, key: str) -> None:
    for _ in range(2):
        answer = alice.post("/rabbit/", {key: "lab.essai"})
        assert (answer.status_code, answer.json) == (201, {"queue": "lab.essai", "type": "quorum"})


def test_the_assignments_round_trip(alice: Caller) -> None:
    alice.post("/rabbit/", {"queue": "lab.essai"})
    empty = alice.get("/rabbit/lab.essai/")
    assert (empty.status_code, empty.data) == (204, b"")
    for message in ({"n": 1}, "bonjour", [1, 2], 7, "{not json", '{"n": 2}'):
        assert alice.post("/rabbit/lab.essai/", {"message": message}).status_code == 201
    taken = [alice.get("/rabbit/lab.essai/").json or {} for _ in range(6)]
    assert [one["message"] for one in taken] == [
        {"n": 1},
        "bonjour",
        [1, 2],
        7,
        "{not json",
        '{"n": 2}',
    ]
    assert [one["remaining"] for one in taken] == [5, 4, 3, 2, 1, 0]
    assert alice.get("/rabbit/lab.essai/").status_code == 204


def test_the_last_slash_may_be_left_out(alice: Caller) -> None:
    assert alice.post("/rabbit", {"queue": "lab.essai"}).status_code == 201
    assert alice.post("/rabbit/lab.essai", {"message": 1}).status_code == 201
    assert (alice.get("/rabbit/lab.essai").json or {})["message"] == 1


def test_a_message_stays_where_it_is_only_looked_at_however_often(alice: Caller) -> None:
    alice.post("/rabbit/", {"queue": "lab.essai"})
    alice.post("/rabbit/lab.essai/", {"message": "stay"})
    for _ in range(topology.DELIVERY_LIMIT + 5):
        looked = alice.get("/rabbit/lab.essai/?ack=false").json or {}
        assert looked["message"] == "stay"
    assert (alice.get("/rabbit/lab.essai/").json or {})["message"] == "stay"
    assert alice.get("/rabbit/lab.essai/").status_code == 204


def test_a_task_on_todo_is_what_a_worker_reads(alice: Caller, broker_url: str) -> None:
    for message in (TASK, orjson.dumps(TASK).decode()):
        assert alice.post("/rabbit/lab.ToDo/", {"message": message}).status_code == 201
    with pika.BlockingConnection(pika.URLParameters(broker_url)) as connection:
        for _ in range(2):
            method, properties, body = connection.channel().basic_get("lab.ToDo")
            assert method is not None
            assert method.exchange == names.EXCHANGE_TODO
            assert properties.delivery_mode == 2
            _, task = read_run(body)
            assert task is not None
            assert task.ID_tache == 3


def test_the_projects_own_queues_are_there_and_are_made_again(
    alice: Caller, broker_url: str
) -> None:
    with pika.BlockingConnection(pika.URLParameters(broker_url)) as connection:
        connection.channel().queue_delete("lab.ToDo")
    assert code(alice.post("/rabbit/lab.ToDo/", {"message": TASK})) == (404, "queue_not_found")
    assert alice.post("/rabbit/", {"queue": "lab.ToDo"}).status_code == 201
    assert alice.post("/rabbit/lab.ToDo/", {"message": TASK}).status_code == 201


def test_a_submitted_jobs_message_is_not_given_away(alice: Caller, broker_url: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(broker_url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(
            names.EXCHANGE_TODO,
            "lab.ToDo",
            orjson.dumps(RUN),
            pika.BasicProperties(headers={names.HEADER_JOB: "job_1", names.HEADER_ATTEMPT: 1}),
        )
        for _ in range(topology.DELIVERY_LIMIT + 5):
            assert code(alice.get("/rabbit/lab.ToDo/")) == (409, "job_message")
        method, properties, body = channel.basic_get("lab.ToDo")
        assert method is not None
        assert orjson.loads(body) == RUN
        assert properties.headers[names.HEADER_JOB] == "job_1"
        assert properties.headers[names.HEADER_ATTEMPT] == 1


def test_results_can_be_taken_from_done(alice: Caller, broker_url: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(broker_url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(names.EXCHANGE_DONE, "lab.run.succeeded", b'{"Resultat": "92"}')
    assert (alice.get("/rabbit/lab.Done/").json or {})["message"] == {"Resultat": "92"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, ""),
        ({"queue": "lab.a", "nom": "lab.b"}, ""),
        ({"queue": "lab.a b"}, "queue"),
        ({"nom": "lab"}, "nom"),
        ({"queue": "lab.ToDo.evil"}, "queue"),
        ({"queue": ""}, "queue"),
        ({"queue": "lab.a", "durable": True}, "durable"),
        ({"queue": "lab.a", "type": "stream"}, "type"),
    ],
    ids=str,
)
def test_a_wrong_queue_is_refused(alice: Caller, body: dict[str, Any], field: str) -> None:
    answer = alice.post("/rabbit/", body)
    assert answer.status_code == 422
    assert (answer.json or {})["errors"][0]["field"] == field


@pytest.mark.parametrize(
    "name", ["qslice.todo", "qslice.ledger.rpc", "amq.direct", "other.essai", "essai", "x.ToDo"]
)
def test_a_queue_of_nobody_or_of_others_is_not_there(alice: Caller, name: str) -> None:
    if "." in name:
        expected = 422 if name == "qslice.ledger.rpc" else 404
        assert alice.post("/rabbit/", {"queue": name}).status_code == expected
    assert alice.post(f"/rabbit/{name}/", {"message": 1}).status_code == 404
    assert alice.get(f"/rabbit/{name}/").status_code == 404


def test_a_queue_that_was_not_made_is_told_so(alice: Caller) -> None:
    for name in ("lab.none", "lab.a b", "lab."):
        assert code(alice.get(f"/rabbit/{name}/")) == (404, "queue_not_found")
        assert code(alice.post(f"/rabbit/{name}/", {"message": 1})) == (404, "queue_not_found")
    # A broker's no does not cost the next caller a connection.
    assert alice.get("/rabbit/lab.Done/").status_code == 204


def test_a_message_needs_its_key(alice: Caller) -> None:
    answer = alice.post("/rabbit/lab.Done/", {"msg": "x"})
    assert answer.status_code == 422
    fields = [error["field"] for error in (answer.json or {})["errors"]]
    assert fields == ["message", "msg"]
    form = alice.send("POST", "/rabbit/lab.Done/", data={"message": "x"})
    assert code(form) == (415, "not_json_type")


def test_a_queue_keeps_its_type(alice: Caller) -> None:
    assert alice.post("/rabbit/", {"queue": "lab.a", "type": "classic"}).status_code == 201
    assert code(alice.post("/rabbit/", {"queue": "lab.a"})) == (409, "queue_differs")


def test_queues_are_bounded_in_number_and_go_with_their_project(
    tokens: Tokens, database_url: str, broker_url: str, management_url: str
) -> None:
    with gateway(
        tokens, database_url, broker_url, management_url, max_queues_per_project=2
    ) as house:
        alice = house.by("alice")
        alice.post("/api/v1/projects", {"name": "lab"})
        for name in ("lab.a", "lab.b", "lab.a"):
            assert alice.post("/rabbit/", {"queue": name}).status_code == 201
        assert code(alice.post("/rabbit/", {"queue": "lab.c"})) == (409, "too_many_queues")
        assert "lab.a" in (alice.get("/api/v1/projects/lab").json or {})["queues"]
        assert alice.delete("/api/v1/projects/lab").status_code == 204
    with pika.BlockingConnection(pika.URLParameters(broker_url)) as connection:
        for name in ("lab.a", "lab.b", "lab.ToDo"):
            with pytest.raises(pika.exceptions.ChannelClosedByBroker):
                connection.channel().queue_declare(name, passive=True)


def test_a_broker_that_is_away_is_told_and_come_back_is_used(
    house: TestGateway, alice: Caller, management_url: str, broker_url: str
) -> None:
    assert alice.get("/rabbit/lab.Done/").status_code == 204
    parameters = house.services.broker._parameters
    port, parameters.port = parameters.port, 1
    house.services.broker.close()
    assert code(alice.get("/rabbit/lab.Done/")) == (503, "broker_unavailable")
    parameters.port = port
    assert alice.get("/rabbit/lab.Done/").status_code == 204
    del management_url, broker_url
