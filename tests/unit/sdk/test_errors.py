"""The gateway's problem documents, as exceptions for people and programs."""

from qslice.sdk.errors import ApiError, FieldProblem


def test_a_problem_gives_its_code_detail_and_fields() -> None:
    error = ApiError.of(
        422,
        {
            "title": "Some fields are wrong",
            "detail": "the run cannot be taken",
            "code": "invalid",
            "errors": [{"field": "limits.cpus", "message": "must be greater than 0"}],
        },
    )
    assert (error.status, error.code, error.detail) == (422, "invalid", "the run cannot be taken")
    assert error.fields == (FieldProblem("limits.cpus", "must be greater than 0"),)
    assert str(error) == "the run cannot be taken: limits.cpus: must be greater than 0"


def test_a_detail_that_only_repeats_the_fields_is_told_once() -> None:
    errors = [{"field": "a", "message": "wrong"}, {"field": "", "message": "odd"}]
    error = ApiError.of(422, {"detail": "a: wrong; odd", "errors": errors})
    assert str(error) == "a: wrong; odd"


def test_an_answer_that_is_no_problem_document_is_quoted() -> None:
    error = ApiError.of(502, None, "<html>\n  Bad   Gateway</html>")
    assert error.code == "http_502"
    assert str(error) == "the gateway answered 502: <html> Bad Gateway</html>"


def test_malformed_errors_in_a_problem_are_passed_over() -> None:
    error = ApiError.of(400, {"title": "Bad", "errors": ["x", {"message": "m"}]})
    assert error.fields == (FieldProblem("", "m"),)
    assert ApiError.of(400, {"errors": "x"}).fields == ()
