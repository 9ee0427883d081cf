"""Publications: what the metadata registry has of a project, and what the project says of it."""

from typing import Annotated, Any, Literal

from flask import Response
from pydantic import BaseModel, Field
from qslice import ids
from qslice.messages.completion import PublicationSettings

from qslice_gateway.api.models import Next, Page, Publication, page
from qslice_gateway.auth.access import Access, Call
from qslice_gateway.problems import Problem
from qslice_gateway.routing import Answer, Routes, json, json_body
from qslice_gateway.store import publications

routes = Routes("publications", "/api/v1/projects/<project>")


class PublicationList(BaseModel):
    items: list[Publication]
    next: Next


class PublicationQuery(Page):
    state: Annotated[
        Literal["pending", "published", "delayed", "failed", "withheld"] | None,
        Field(description="only these"),
    ] = None


@routes.get(
    "/publications",
    access=Access.PROJECT,
    summary="What is, or is to be, in the metadata registry",
    query=PublicationQuery,
    answers={200: Answer("A page", PublicationList)},
)
def list_publications(call: Call, project: str, query: PublicationQuery) -> Response:
    with call.services.pool.connection() as connection:
        rows = publications.listed(
            connection,
            project,
            states=[query.state] if query.state else None,
            before=query.place(),
            limit=query.limit + 1,
        )
    return json(page(rows, query.limit, "id"))


@routes.get(
    "/publications/<publication>",
    access=Access.PROJECT,
    summary="One publication",
    answers={200: Answer("The publication", Publication)},
    problems=("publication_not_found",),
)
def get_publication(call: Call, project: str, publication: str) -> Response:
    with call.services.pool.connection() as connection:
        found = publications.get(connection, project, _checked(publication))
    return json(_present(found, publication))


@routes.post(
    "/publications/<publication>/replay",
    access=Access.PROJECT,
    summary="Publish it again, as the project's settings are now",
    description="Its object in the registry is updated, or made where there is none.",
    answers={202: Answer("It is told to the publisher again", Publication)},
    problems=("publication_not_found",),
)
def replay_publication(call: Call, project: str, publication: str) -> Response:
    with call.services.pool.connection() as connection:
        found = publications.replay(connection, project, _checked(publication))
    return json(_present(found, publication), 202)


@routes.get(
    "/settings/publication",
    access=Access.PROJECT,
    summary="What the project says of all that is published",
    answers={200: Answer("The settings", PublicationSettings)},
)
def get_settings(call: Call, project: str) -> Response:
    with call.services.pool.connection() as connection:
        found = publications.settings(connection, project)
    if found is None:
        raise Problem("project_not_found", f"{project!r} was deleted")
    return json(found.model_dump(mode="json"))


@routes.put(
    "/settings/publication",
    access=Access.PROJECT,
    summary="Change them, for what is published from now on",
    description="What is left out has its default. `enabled: false` publishes nothing more.",
    body=json_body(
        PublicationSettings,
        {
            "license": "CC-BY-4.0",
            "license_uri": "https://creativecommons.org/licenses/by/4.0/",
            "access_mode": "Free",
            "access_rights": "Open access",
            "keywords": ["QKD", "BB84"],
        },
    ),
    answers={200: Answer("As they are now", PublicationSettings)},
)
def change_settings(call: Call, project: str, body: PublicationSettings) -> Response:
    with call.services.pool.connection() as connection:
        if not publications.change_settings(connection, project, body):
            raise Problem("project_not_found", f"{project!r} was deleted")
    return json(body.model_dump(mode="json"))


def _checked(publication: str) -> str:
    try:
        ids.parse(publication)
    except ValueError:
        raise _missing(publication) from None
    return publication


def _present(found: dict[str, Any] | None, publication: str) -> dict[str, Any]:
    if found is None:
        raise _missing(publication)
    return found


def _missing(publication: str) -> Problem:
    return Problem("publication_not_found", f"the project has no publication {publication[:120]!r}")
