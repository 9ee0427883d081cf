"""How a route is declared: once, with its access rule, its input, its answers and its errors.

The declaration makes the Flask view and the OpenAPI document. Access has no default: what does
not say who may use it is not a route.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import orjson
from flask import Response, request
from pydantic import BaseModel, ValidationError
from qslice.messages.base import Message
from qslice.messages.base import problems as wrong_fields

from qslice_gateway import metrics
from qslice_gateway.auth.access import Access, admit
from qslice_gateway.problems import Problem, invalid
from qslice_gateway.services import Services

JSON = "application/json"
View = Callable[..., Response]
B = TypeVar("B", bound=BaseModel)
T = TypeVar("T")


@dataclass(frozen=True)
class Body(Generic[T]):
    """A JSON body: what reads it, and the models that describe it (one of them)."""

    read: Callable[[bytes], T]
    models: tuple[type[BaseModel], ...]
    example: Any = None


@dataclass(frozen=True)
class Answer:
    """One way in which a route answers."""

    description: str
    #: None: no body.
    model: type[BaseModel] | None = None
    media_types: tuple[str, ...] = (JSON,)
    #: Where the answer has another form, as to many things instead of one.
    or_model: type[BaseModel] | None = None

    @property
    def models(self) -> tuple[type[BaseModel], ...]:
        return tuple(model for model in (self.model, self.or_model) if model is not None)


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    view: View
    access: Access
    summary: str
    answers: Mapping[int, Answer]
    tag: str = ""
    description: str = ""
    body: Body[Any] | None = None
    query: type[Message] | None = None
    #: Codes of the problems that are its own; those of access and input are added.
    problems: tuple[str, ...] = ()
    #: Request headers that it reads, and their schemas.
    headers: Mapping[str, Any] = field(default_factory=dict)

    def bind(self, services: Services, failed: Callable[[Exception], Response]) -> View:
        """The function that Flask calls; `failed` makes an answer of what it raises."""
        access, view, body, query = self.access, self.view, self.body, self.query
        name = f"{self.method} {self.path}"
        most = services.settings.max_body_bytes

        def answer(arguments: dict[str, Any]) -> Response:
            call = admit(access, services, request.environ.get("HTTP_AUTHORIZATION"), arguments)
            if query is not None:
                arguments["query"] = read_query(query)
            if body is not None:
                arguments["body"] = body.read(_raw_body(most))
            return view(call, **arguments)

        def handle(**path: Any) -> Response:
            begin = time.perf_counter()
            try:
                found = answer(path)
            except Exception as error:
                found = failed(error)
            metrics.seen(name, found.status_code, time.perf_counter() - begin)
            return found

        handle.__name__ = view.__name__
        handle.qslice_access = access  # type: ignore[attr-defined]
        return handle


@dataclass
class Routes:
    """The routes of one module."""

    tag: str
    prefix: str = ""
    found: list[Route] = field(default_factory=list)

    def get(self, path: str, **declared: Any) -> Callable[[View], View]:
        return self._add("GET", path, declared)

    def post(self, path: str, **declared: Any) -> Callable[[View], View]:
        return self._add("POST", path, declared)

    def put(self, path: str, **declared: Any) -> Callable[[View], View]:
        return self._add("PUT", path, declared)

    def delete(self, path: str, **declared: Any) -> Callable[[View], View]:
        return self._add("DELETE", path, declared)

    def _add(self, method: str, path: str, declared: dict[str, Any]) -> Callable[[View], View]:
        def keep(view: View) -> View:
            self.found.append(Route(method, self.prefix + path, view, tag=self.tag, **declared))
            return view

        return keep


def json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON; times as RFC 3339 in UTC."""
    return Response(
        orjson.dumps(value, option=orjson.OPT_UTC_Z), status, headers, content_type=JSON
    )


def read_json(model: type[B], raw: bytes) -> B:
    """The body as a model, strictly: a number in quotes is no number.

    Raises `Problem`: 400 where it is no JSON, 422 naming each field that is wrong.
    """
    try:
        found = model.model_validate_json(raw, strict=True)
    except ValidationError as wrong:
        if wrong.errors(include_url=False, include_input=False)[0]["type"] == "json_invalid":
            raise Problem("not_json", wrong_fields(wrong)[0][1]) from None
        raise invalid(wrong_fields(wrong)) from None
    if b"\\u0000" in raw:
        refuse_nul(orjson.loads(raw))
    return found


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in a body; raises `Problem` where it is none, or holds a NUL character."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as wrong:
        raise Problem("not_json", str(wrong)) from None
    if not isinstance(value, dict):
        raise invalid([("", "must be a JSON object")])
    if b"\\u0000" in raw:
        refuse_nul(value)
    return value


def json_body(model: type[B], example: Any = None) -> Body[B]:
    return Body(lambda raw: read_json(model, raw), (model,), example)


def refuse_nul(value: Any, path: str = "") -> None:
    """PostgreSQL stores no NUL character; raises `Problem` that names where one is."""
    if isinstance(value, str):
        if "\x00" in value:
            raise invalid([(path, "must not hold NUL characters")])
    elif isinstance(value, dict):
        for name, inner in value.items():
            refuse_nul(name, path)
            refuse_nul(inner, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            refuse_nul(inner, f"{path}.{index}".lstrip("."))


def read_query(model: type[Message]) -> Message:
    """The query string as a model; raises `Problem` 422 naming each parameter that is wrong."""
    given: dict[str, Any] = {}
    for name, values in request.args.lists():
        if len(values) > 1:
            raise invalid([(name, "given more than once")])
        if "\x00" in values[0]:
            raise invalid([(name, "must not hold NUL characters")])
        given[name] = values[0]
    try:
        return model.model_validate_strings(given)
    except ValidationError as wrong:
        raise invalid(wrong_fields(wrong)) from None


def accepted(*media_types: str) -> str:
    """Which of these the caller asks for, the first where all are the same to them.

    Raises `Problem` 406 where none is.
    """
    if "HTTP_ACCEPT" not in request.environ:
        return media_types[0]
    found = request.accept_mimetypes.best_match(media_types)
    if found is None:
        raise Problem("not_acceptable", f"ask for {' or '.join(media_types)}")
    return found


def _raw_body(most: int) -> bytes:
    """The whole body, which must be JSON by its header; raises `Problem` 400, 413 or 415.

    Read here since werkzeug cuts a body of unknown length at the limit without a word.
    """
    environ = request.environ
    media_type = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if media_type != JSON:
        raise Problem("not_json_type", f"send the header 'Content-Type: {JSON}'")
    told = environ.get("CONTENT_LENGTH") or ""
    if not told and not environ.get("wsgi.input_terminated"):
        return b""
    size = int(told) if told.isdigit() else most + 1
    if told and size > most:
        raise _too_large(most)
    try:
        raw: bytes = environ["wsgi.input"].read(size)
    except OSError:
        raise Problem("bad_request", "the body did not come in time") from None
    if len(raw) > most:
        raise _too_large(most)
    if told and len(raw) < size:
        raise Problem("bad_request", "the body is shorter than its Content-Length")
    return raw


def _too_large(most: int) -> Problem:
    return Problem("body_too_large", f"at most {most} bytes are read; send more requests")
