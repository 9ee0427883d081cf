"""Who gets in: every route, without a token, with an expired one, and with somebody else's."""

from __future__ import annotations

import re
from typing import Any

import pytest
from qslice_gateway.app import all_routes
from qslice_gateway.auth.access import Access
from qslice_gateway.routing import Route

from tests.support.gateway import RUN, Caller, TestGateway

GUARDED = [route for route in all_routes() if route.access is not Access.PUBLIC]


@pytest.fixture
def things(alice: Caller) -> dict[str, str]:
    """What stands in the paths, alice's own; a parameter that is not named here is `1`."""
    job = alice.post("/api/v1/projects/lab/jobs", RUN)
    batch = alice.post("/api/v1/projects/lab/batches", {"template": RUN, "grid": {"distance": [1]}})
    assert job.json is not None
    assert batch.json is not None
    return {
        "project": "lab",
        "job": job.json["job_id"],
        "batch": batch.json["batch_id"],
        "message": "1",
        "queue": "lab.Done",
    }


def path_of(route: Route, things: dict[str, str]) -> str:
    return re.sub(r"<([a-z]+)>", lambda found: things.get(found[1], "1"), route.path)


def send(caller: Caller, route: Route, things: dict[str, str]) -> Any:
    """The route's own example as a body; its input would be fine."""
    example = route.body.example if route.body else None
    return caller.send(route.method, path_of(route, things), json=example)


def test_every_route_needs_a_good_token(
    house: TestGateway, alice: Caller, things: dict[str, str]
) -> None:
    expired = house.tokens.make("alice", life_s=-60)
    callers = {
        "none": (house.by_nobody(), "unauthorized"),
        "expired": (house.with_token(expired), "token_expired"),
        "nonsense": (house.with_token("abc.def.ghi"), "unauthorized"),
    }
    for route in GUARDED:
        for which, (caller, code) in callers.items():
            answer = send(caller, route, things)
            told = f"{which}: {route.method} {route.path}"
            assert answer.status_code == 401, told
            assert answer.json["code"] == code, told
            assert answer.headers["WWW-Authenticate"].startswith("Bearer"), told
    # Nothing of it had an effect.
    assert alice.get("/api/v1/projects/lab").json == {
        **(alice.get("/api/v1/projects").json or {})["items"][0],
        "jobs": {"waiting": 2},
    }


def test_what_is_anothers_looks_as_if_it_were_not_there(
    alice: Caller, mallory: Caller, things: dict[str, str]
) -> None:
    missing = {**things, "project": "nowhere", "job": things["job"][:-1] + "0", "queue": "no.Done"}
    for route in GUARDED:
        if "<" not in route.path:
            continue
        told = f"{route.method} {route.path}"
        foreign, absent = send(mallory, route, things), send(mallory, route, missing)
        assert foreign.status_code == absent.status_code == 404, told
        assert foreign.json["code"] == absent.json["code"], told
    assert alice.get(f"/api/v1/jobs/{things['job']}").status_code == 200


def test_routes_without_a_project_in_their_path_show_and_make_nothing_of_anothers(
    alice: Caller, mallory: Caller
) -> None:
    del alice
    assert mallory.get("/api/v1/projects").json == {"items": [], "next": None}
    taken = mallory.post("/api/v1/projects", {"name": "lab"})
    assert (taken.status_code, taken.json and taken.json["code"]) == (409, "project_taken")
    assert mallory.post("/rabbit/", {"queue": "lab.extra"}).status_code == 404
    assert mallory.get("/metrics").status_code == 403


def test_a_person_whose_token_names_the_project_may_use_it(
    house: TestGateway, alice: Caller, things: dict[str, str]
) -> None:
    del alice
    bob = house.by("bob", "lab")
    assert bob.get(f"/api/v1/jobs/{things['job']}").status_code == 200
    assert bob.post("/api/v1/projects/lab/jobs", RUN).status_code == 202


def test_an_administrator_may_use_every_project(
    house: TestGateway, alice: Caller, things: dict[str, str]
) -> None:
    del alice
    root = house.by("root", admin=True)
    assert root.get(f"/api/v1/jobs/{things['job']}").status_code == 200
    names = [project["name"] for project in (root.get("/api/v1/projects").json or {})["items"]]
    assert names == ["lab"]


def test_a_token_that_names_a_deleted_project_does_not_bring_it_back(
    house: TestGateway, alice: Caller
) -> None:
    assert alice.delete("/api/v1/projects/lab").status_code == 204
    bob = house.by("bob", "lab")
    for caller in (alice, bob, house.by("root", admin=True)):
        assert caller.get("/api/v1/projects/lab").status_code == 404
        assert caller.post("/api/v1/projects/lab/jobs", RUN).status_code == 404
    assert bob.post("/api/v1/projects", {"name": "lab"}).status_code == 409


def test_safe_headers_are_on_every_answer(house: TestGateway, alice: Caller) -> None:
    for answer in (
        alice.get("/api/v1/projects"),
        house.by_nobody().get("/api/v1/projects"),
        house.by_nobody().get("/nowhere"),
        house.by_nobody().get("/docs"),
        house.by_nobody().post("/docs"),
    ):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Set-Cookie" not in answer.headers
        assert answer.headers["Content-Type"] in (
            "application/json",
            "application/problem+json",
            "text/html; charset=utf-8",
        )


def test_an_address_or_method_that_is_not_there_is_told_so(house: TestGateway) -> None:
    nobody = house.by_nobody()
    missing, wrong = nobody.get("/api/v2/projects"), nobody.post("/healthz")
    assert (missing.status_code, missing.json and missing.json["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json and wrong.json["code"]) == (405, "method_not_allowed")
    assert wrong.headers["Allow"] == "GET, HEAD"
    assert nobody.send("OPTIONS", "/api/v1/projects").status_code == 405
