"""Errors as people and programs see them."""

import pytest
from flask import Flask
from qslice_gateway.app import answer_to
from qslice_gateway.problems import CODES, MEDIA_TYPE, Problem, invalid
from werkzeug.exceptions import NotFound


def test_a_problem_names_its_code_its_status_and_each_field() -> None:
    problem = invalid([("limits.cpus", "too many"), ("ref", "is no branch")])
    response = problem.response()
    assert (response.status_code, response.content_type) == (422, MEDIA_TYPE)
    assert response.json == {
        "type": "urn:qslice:problem:invalid",
        "title": "Some fields are wrong",
        "status": 422,
        "detail": "limits.cpus: too many; ref: is no branch",
        "code": "invalid",
        "errors": [
            {"field": "limits.cpus", "message": "too many"},
            {"field": "ref", "message": "is no branch"},
        ],
    }


def test_many_wrong_fields_make_a_short_sentence_and_a_long_list() -> None:
    problem = invalid([(f"jobs.{number}", "bad") for number in range(50)])
    assert problem.detail.endswith("(and 47 more)")
    assert len(problem.errors) == 50


@pytest.mark.parametrize("code", ["unauthorized", "token_expired"])
def test_who_needs_a_token_is_told_how(code: str) -> None:
    assert Problem(code, "").response().headers["WWW-Authenticate"].startswith("Bearer")


def test_every_code_has_a_status_of_an_error_and_a_title() -> None:
    for code, (status, title) in CODES.items():
        assert code.replace("_", "").isalpha()
        assert 400 <= status < 600
        assert title[0].isupper()


def test_a_surprise_tells_nothing_of_what_happened() -> None:
    with Flask("test").test_request_context("/"):
        response = answer_to(RuntimeError("password=hunter2"))
        assert response.status_code == 500
        assert b"hunter2" not in response.data
        assert answer_to(NotFound()).status_code == 404
