"""Projects, and each one's own RabbitMQ user."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

import structlog
from flask import Response
from pydantic import BaseModel, Field, StringConstraints, field_validator
from qslice import names
from qslice.messages.base import Message
from qslice.states import ACTIVE

from qslice_gateway.api.models import Next, Page, page
from qslice_gateway.auth.access import Access, Call
from qslice_gateway.problems import Problem
from qslice_gateway.routing import Answer, Routes, json, json_body
from qslice_gateway.store import projects, reads

log = structlog.get_logger()
routes = Routes("projects", "/api/v1/projects")


class NewProject(Message):
    name: Annotated[
        str,
        StringConstraints(min_length=1, max_length=63),
        Field(
            description=names.PROJECT_RULE,
            json_schema_extra={
                "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
                "not": {"enum": sorted(names.RESERVED)},
            },
        ),
    ]

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return names.check_project(value)


class Project(BaseModel):
    name: str
    id: str
    owner: str
    created_at: datetime
    broker_user_at: Annotated[
        datetime | None, Field(description="when its RabbitMQ user last got a password")
    ]
    queues: Annotated[list[str], Field(description="its queues on the broker")]


class ProjectDetails(Project):
    jobs: Annotated[dict[str, int], Field(description="number of jobs by state")]


class ProjectList(BaseModel):
    items: list[Project]
    next: Next


class BrokerUser(BaseModel):
    """The project's own RabbitMQ user. The password is shown this once."""

    username: str
    password: str
    vhost: str
    amqp_url: str
    exchange: Annotated[str, Field(description="where lab scripts publish")]
    routing_keys: Annotated[list[str], Field(description="with which they publish")]
    queues: Annotated[list[str], Field(description="that they may read")]


class Deletion(Message):
    force: Annotated[
        Literal["", "0", "1", "false", "true"],
        Field(description="cancel what is still to do"),
    ] = "false"


@routes.post(
    "",
    access=Access.PERSON,
    summary="Make a project and its queues",
    description="Asked again by who may use the project, it answers 200 with the same.",
    body=json_body(NewProject, {"name": "qkd-lab"}),
    answers={
        201: Answer("The project was made", Project),
        200: Answer("It was there and is yours", Project),
    },
    problems=("forbidden", "project_taken"),
)
def create_project(call: Call, body: NewProject) -> Response:
    person, services = call.person, call.services
    with services.pool.connection() as connection:
        found = projects.get(connection, body.name)
        if found is not None and person.may_use(body.name, found["owner"]):
            return json(_shown(found))
        if not person.may_make(body.name):
            raise Problem(
                "forbidden",
                f"your token does not name the project {body.name!r} (claim proj_name); use one "
                "that does, or ask an administrator to make it",
            )
        made = projects.create(connection, body.name, person.subject, services.settings.authority)
    if made is None:
        raise Problem("project_taken", "choose another name", [("name", "is taken")])
    services.doorbell.ring()
    try:
        services.broker.declare_project(body.name)
    except Problem as late:
        # The ledger was told in the same transaction and declares them once the broker is back.
        log.warning("queues_later", project=body.name, reason=late.detail)
    return json(_shown(made), 201)


@routes.get(
    "",
    access=Access.PERSON,
    summary="Your projects",
    query=Page,
    answers={200: Answer("By name", ProjectList)},
)
def list_projects(call: Call, query: Page) -> Response:
    person = call.person
    mine: dict[str, Any] = {}
    if not person.admin:
        mine = {"owner": person.subject, "members": sorted(person.projects)}
    with call.services.pool.connection() as connection:
        rows = projects.listed(connection, after=query.place() or "", limit=query.limit + 1, **mine)
    return json(page([_shown(row) for row in rows], query.limit, "name"))


@routes.get(
    "/<project>",
    access=Access.PROJECT,
    summary="A project, with its jobs counted",
    answers={200: Answer("The project", ProjectDetails)},
)
def get_project(call: Call, project: str) -> Response:
    with call.services.pool.connection() as connection:
        found = projects.get(connection, project)
        counts = reads.counts(connection, project)
    if found is None:
        raise _gone(project)
    return json({**_shown(found), "jobs": counts})


@routes.delete(
    "/<project>",
    access=Access.PROJECT,
    summary="Delete a project and its queues; its name stays taken",
    description="Refused while jobs are still to do, unless `force`: then they are cancelled.",
    query=Deletion,
    answers={204: Answer("It is gone", media_types=())},
    problems=("project_busy", "broker_unavailable"),
)
def delete_project(call: Call, project: str, query: Deletion) -> Response:
    services = call.services
    with services.pool.connection() as connection:
        found = projects.get(connection, project)
        counts = reads.counts(connection, project)
    if found is None:
        raise _gone(project)
    active = sum(counts.get(state, 0) for state in ACTIVE)
    if active and query.force not in ("1", "true"):
        raise Problem(
            "project_busy", f"{active} jobs are still to do; add ?force=true to cancel them"
        )
    if services.management is not None:
        # First: a lab must not go on publishing to a project that is not there.
        services.management.delete_lab_user(project)
    with services.pool.connection() as connection:
        projects.delete(connection, project)
    services.forget_owner(project)
    services.doorbell.ring()
    try:
        services.broker.delete_queues(_queues(found))
    except Problem as late:
        # The ledger deletes the project's own; what it made beside them expires.
        log.warning("queues_later", project=project, reason=late.detail)
    return Response(status=204)


@routes.post(
    "/<project>/broker-user",
    access=Access.PROJECT,
    summary="Make the project's RabbitMQ user, or give it a new password",
    description="Connections with the old password are closed. The password is shown this once.",
    answers={201: Answer("The user, with its password", BrokerUser)},
    problems=("not_configured", "broker_unavailable", "forbidden"),
)
def renew_broker_user(call: Call, project: str) -> Response:
    services = call.services
    if services.management is None:
        raise Problem("not_configured", "QSLICE_RABBITMQ_MANAGEMENT_URL is not set")
    with services.pool.connection() as connection:
        if projects.get(connection, project) is None:
            raise _gone(project)
    services.broker.declare_project(project)
    user = services.management.renew_lab_user(project)
    with services.pool.connection() as connection:
        projects.lab_user_made(connection, project)
    address = services.settings.public_amqp_url or services.settings.amqp_url.get_secret_value()
    return json(
        {
            "username": user.username,
            "password": user.password,
            "vhost": user.vhost,
            "amqp_url": _amqp_url(address, user.username, user.password, user.vhost),
            "exchange": names.EXCHANGE_TODO,
            "routing_keys": [names.todo(project, kind) for kind in names.KINDS],
            "queues": [names.done(project), names.dead(project)],
        },
        201,
    )


def _amqp_url(address: str, username: str, password: str, vhost: str) -> str:
    """The broker's address with this user in place of its own; TLS parameters are kept."""
    parts = urlsplit(address)
    host = re.sub(r"^.*@", "", parts.netloc)
    user = f"{quote(username, safe='')}:{quote(password, safe='')}"
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{user}@{host}/{quote(vhost, safe='')}{query}"


def _gone(project: str) -> Problem:
    return Problem("project_not_found", f"{project!r} was deleted")


def _queues(row: dict[str, Any]) -> list[str]:
    return [*names.queues(row["name"]), *row["settings"].get("queues", {})]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "id": row["id"],
        "owner": row["owner"],
        "created_at": row["created_at"],
        "broker_user_at": row["broker_user_at"],
        "queues": _queues(row),
    }
