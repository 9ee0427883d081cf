"""What a person may: each route names one of these rules, and there is no rule by default.

What is another's answers 404, as if it were not there: names of projects and jobs are no secret
that an error code should tell.
"""

import hmac
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from qslice import ids, names

from qslice_gateway.auth.identity import Identity
from qslice_gateway.problems import Problem
from qslice_gateway.services import Services
from qslice_gateway.store import reads


class Access(StrEnum):
    #: Anybody, without a token.
    PUBLIC = "public"
    #: Whoever has a valid token.
    PERSON = "person"
    #: Who may use the project in the path.
    PROJECT = "project"
    #: Who may use the project of the job in the path.
    JOB = "job"
    #: Who may use the project that the queue in the path belongs to.
    QUEUE = "queue"
    #: The metrics token, or an administrator.
    METRICS = "metrics"


@dataclass(slots=True)
class Call:
    """One request that was let in."""

    services: Services
    #: None on a public route alone.
    identity: Identity | None = None
    #: The row of the job in the path.
    job: dict[str, Any] | None = None

    @property
    def person(self) -> Identity:
        if self.identity is None:
            raise RuntimeError("a public route asked who calls")
        return self.identity

    @property
    def the_job(self) -> dict[str, Any]:
        if self.job is None:
            raise RuntimeError("a route without a job asked for it")
        return self.job


def admit(
    access: Access, services: Services, authorization: str | None, path: dict[str, Any]
) -> Call:
    """Let a request in by its route's rule; raises `Problem` 401, 403 or 404 where it may not."""
    if access is Access.PUBLIC:
        return Call(services)
    if access is Access.METRICS and _is_metrics_token(services, authorization):
        return Call(services)
    identity = services.tokens.identify(authorization)
    if access is Access.PERSON:
        return Call(services, identity)
    if access is Access.PROJECT:
        admit_to_project(services, identity, path["project"])
        return Call(services, identity)
    if access is Access.QUEUE:
        admit_to_project(services, identity, path["queue"].partition(".")[0])
        return Call(services, identity)
    if access is Access.JOB:
        return Call(services, identity, _job(services, identity, path["job"]))
    if not identity.admin:
        raise Problem("forbidden", "administrators only")
    return Call(services, identity)


def admit_to_project(services: Services, identity: Identity, project: str) -> None:
    """Raises `Problem` 404 unless the project is there and theirs."""
    owner = services.owner_of(project) if _is_project(project) else None
    if owner is None or not identity.may_use(project, owner):
        raise Problem(
            "project_not_found", f"you have no project {project[:80]!r}; see GET /api/v1/projects"
        )


def _job(services: Services, identity: Identity, job_id: str) -> dict[str, Any]:
    missing = Problem("job_not_found", f"you have no job {job_id[:120]!r}")
    try:
        ids.parse(job_id, ids.JOB)
    except ValueError:
        raise missing from None
    with services.pool.connection() as connection:
        found = reads.job(connection, job_id)
    if found is None:
        raise missing
    owner = services.owner_of(found["project"])
    if owner is None or not identity.may_use(found["project"], owner):
        raise missing
    return found


def _is_metrics_token(services: Services, authorization: str | None) -> bool:
    token = services.settings.metrics_token
    if token is None or authorization is None:
        return False
    expected = f"Bearer {token.get_secret_value()}"
    return hmac.compare_digest(authorization.encode(), expected.encode())


def _is_project(name: str) -> bool:
    try:
        names.check_project(name)
    except ValueError:
        return False
    return True
