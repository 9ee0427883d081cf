"""What goes wrong, as people and programs see it: `application/problem+json` (RFC 9457)."""

from collections.abc import Iterable
from http import HTTPStatus

import orjson
from flask import Response
from pydantic import BaseModel, Field

MEDIA_TYPE = "application/problem+json"

#: Every code there is: its status and title. Programs rely on them.
CODES: dict[str, tuple[int, str]] = {
    "not_json": (400, "The body is not JSON"),
    "bad_request": (400, "The request cannot be understood"),
    "unauthorized": (401, "A valid token is needed"),
    "token_expired": (401, "The token has expired"),
    "forbidden": (403, "The token does not allow this"),
    "not_found": (404, "There is no such thing here"),
    "project_not_found": (404, "There is no such project for you"),
    "job_not_found": (404, "There is no such job for you"),
    "batch_not_found": (404, "There is no such batch for you"),
    "dead_letter_not_found": (404, "There is no such dead letter"),
    "publication_not_found": (404, "There is no such publication"),
    "queue_not_found": (404, "There is no such queue for you"),
    "method_not_allowed": (405, "The method does not exist here"),
    "not_acceptable": (406, "The answer has no such form"),
    "project_taken": (409, "The project's name is taken"),
    "project_busy": (409, "The project still has jobs to do"),
    "job_finished": (409, "The job is over"),
    "not_retriable": (409, "The job cannot be tried again"),
    "batch_active": (409, "The batch is not over yet"),
    "not_replayable": (409, "The dead letter cannot be tried again"),
    "queue_differs": (409, "The queue exists with other properties"),
    "too_many_queues": (409, "The project has as many queues as it may"),
    "job_message": (409, "The next message belongs to a job of the platform"),
    "queue_full": (409, "The queue is full"),
    "body_too_large": (413, "The body is too large"),
    "not_json_type": (415, "The body's type is not JSON"),
    "invalid": (422, "Some fields are wrong"),
    "too_many_jobs": (422, "Too many jobs in one request"),
    "internal": (500, "Something of ours failed"),
    "not_configured": (501, "The operator has not switched this on"),
    "database_unavailable": (503, "The database cannot be reached"),
    "broker_unavailable": (503, "The broker cannot be reached"),
    "issuer_unavailable": (503, "The token's issuer cannot be reached"),
    "too_many_streams": (503, "Too many live streams"),
    "not_ready": (503, "Not ready"),
}


class FieldError(BaseModel):
    field: str = Field(description="path of the field, with dots; empty: the whole body")
    message: str


class ProblemBody(BaseModel):
    """An error, RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="stable, for programs", json_schema_extra={"enum": [*CODES]})
    errors: list[FieldError] = Field(default=[], description="each field that is wrong")


class Problem(Exception):
    """Raised anywhere below a view; the answer tells it to the caller."""

    def __init__(
        self,
        code: str,
        detail: str,
        errors: Iterable[tuple[str, str]] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.status, self.title = CODES[code]
        self.detail = detail
        self.errors = [{"field": field, "message": message} for field, message in errors]
        self.headers = headers or {}

    def body(self) -> dict[str, object]:
        found: dict[str, object] = {
            "type": f"urn:qslice:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.errors:
            found["errors"] = self.errors
        return found

    def response(self) -> Response:
        answer = Response(orjson.dumps(self.body()), self.status, content_type=MEDIA_TYPE)
        answer.headers.extend(self.headers)
        if self.status == HTTPStatus.UNAUTHORIZED:
            error = "" if self.code == "unauthorized" else ', error="invalid_token"'
            answer.headers["WWW-Authenticate"] = f'Bearer realm="qslice"{error}'
        return answer


def invalid(errors: Iterable[tuple[str, str]]) -> Problem:
    """Fields that are wrong: (path, why) each."""
    found = list(errors)
    first = "; ".join(f"{field}: {why}" if field else why for field, why in found[:3])
    more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    return Problem("invalid", first + more, found)
