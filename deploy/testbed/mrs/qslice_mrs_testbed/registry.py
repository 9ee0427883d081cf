"""What the routes share: the registry's parts, and how it answers."""

from dataclasses import dataclass, field
from typing import Any

import flask
import orjson

from qslice_mrs_testbed.faults import Build, Faults
from qslice_mrs_testbed.store import Store
from qslice_mrs_testbed.tokens import Tokens


@dataclass
class Registry:
    """All that the routes work on."""

    store: Store
    tokens: Tokens
    realm_name: str = "slices"
    faults: Faults = field(default_factory=Faults)
    build: Build = field(default_factory=Build)
    #: Requests so far by what they were, as tests count them.
    seen: dict[str, int] = field(default_factory=dict)


def answer(value: Any, status: int = 200) -> flask.Response:
    return flask.Response(orjson.dumps(value), status, mimetype="application/json")


def problem(status: int, title: str, errors: dict[str, list[str]] | None = None) -> flask.Response:
    """ASP.NET Core's problem details."""
    body: dict[str, Any] = {
        "type": f"https://httpstatuses.io/{status}",
        "title": title,
        "status": status,
    }
    if errors:
        body["errors"] = errors
    made = answer(body, status)
    made.mimetype = "application/problem+json"
    return made
