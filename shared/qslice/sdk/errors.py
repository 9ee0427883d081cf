"""What goes wrong between a lab script and qslice, as exceptions with a message for people."""

from dataclasses import dataclass
from typing import Any


class QsliceError(Exception):
    """Any of the failures below."""


@dataclass(frozen=True)
class FieldProblem:
    """One wrong field of a request."""

    #: The path with dots, such as `limits.memory_mb`.
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class ApiError(QsliceError):
    """The gateway's answer was no: an `application/problem+json` document.

    `code` is stable and meant for programs; `fields` names what was wrong with the request.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        fields: tuple[FieldProblem, ...] = (),
    ) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.fields = fields
        # The detail of many an error is its fields, joined.
        named = "; ".join(str(problem) for problem in fields if str(problem) not in detail)
        super().__init__(": ".join(part for part in (detail, named) if part) or code)

    @classmethod
    def of(cls, status: int, document: Any, text: str = "") -> "ApiError":
        """The error in an answer's JSON; whatever else came is quoted."""
        if not isinstance(document, dict):
            shown = " ".join(text.split())[:200]
            return cls(status, f"http_{status}", f"the gateway answered {status}: {shown}")
        problems = document.get("errors")
        fields = tuple(
            FieldProblem(str(problem.get("field", "")), str(problem.get("message", "")))
            for problem in (problems if isinstance(problems, list) else [])
            if isinstance(problem, dict)
        )
        detail = document.get("detail") or document.get("title") or f"error {status}"
        return cls(status, str(document.get("code") or f"http_{status}"), str(detail), fields)


class Unreachable(QsliceError):
    """The gateway gave no answer, or no sensible one, however often it was asked."""


class BrokerError(QsliceError):
    """RabbitMQ refused, or could not be reached."""


class Unconfigured(QsliceError):
    """An address or a token is needed and none was given."""
