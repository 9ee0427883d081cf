"""The OpenAPI document, and a page that shows it without a script or a foreign server."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import orjson
from flask import Response, render_template

from qslice_gateway import openapi
from qslice_gateway.auth.access import Access, Call
from qslice_gateway.routing import JSON, Answer, Route, Routes

_STYLE_MEDIA_TYPE = "text/css"


def routes_about(others: Iterable[Route]) -> list[Route]:
    """The routes that describe these, and themselves."""
    routes = Routes("operation")
    everything: list[Route] = []

    @cache
    def document() -> dict[str, Any]:
        return openapi.document(everything)

    @routes.get(
        "/openapi.json",
        access=Access.PUBLIC,
        summary="This document",
        answers={200: Answer("OpenAPI 3.1")},
    )
    def get_openapi(call: Call) -> Response:
        del call
        return Response(orjson.dumps(document()), content_type=JSON)

    @routes.get(
        "/docs",
        access=Access.PUBLIC,
        summary="This document as a page",
        answers={200: Answer("HTML", media_types=("text/html",))},
    )
    def get_docs(call: Call) -> Response:
        del call
        return Response(
            render_template("docs.html", document=document(), json=_pretty),
            content_type="text/html; charset=utf-8",
        )

    @routes.get(
        "/docs.css",
        access=Access.PUBLIC,
        summary="The page's style",
        answers={200: Answer("CSS", media_types=(_STYLE_MEDIA_TYPE,))},
    )
    def get_docs_style(call: Call) -> Response:
        del call
        return Response(
            render_template("docs.css"), content_type=f"{_STYLE_MEDIA_TYPE}; charset=utf-8"
        )

    everything += [*others, *routes.found]
    return routes.found


def _pretty(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
