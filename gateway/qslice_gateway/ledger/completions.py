"""What the publisher is told of a finished batch or a resource: pure, from rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from qslice import ids
from qslice.messages.completion import (
    Completion,
    CompletionEvent,
    Dataset,
    Person,
    PublicationSettings,
    Related,
    ResourceFacts,
    Software,
)

#: Pairs of commit and image that a batch names; more than one is rare.
MAX_SOFTWARE = 20
#: A job's label that names the resource it runs on.
RESOURCE_LABEL = "resource"
CSV = "text/csv"


@dataclass(frozen=True)
class Table:
    """A batch's results as a file."""

    bytes: int
    #: Hexadecimal.
    sha256: str


@dataclass(frozen=True)
class Runs:
    """What a batch's jobs have in common."""

    #: How many are in each state.
    counts: Mapping[str, int]
    first_start: datetime | None
    last_end: datetime | None
    #: Each with `repository`, `commit`, `image`.
    software: Sequence[Mapping[str, Any]]
    #: Identifiers of the resources of the same experiment.
    resources: Sequence[str] = ()


def of_batch(
    batch: Mapping[str, Any],
    runs: Runs,
    table: Table,
    settings: PublicationSettings,
    public_url: str,
    *,
    revision: int,
    at: datetime,
) -> Completion:
    """The completion of a batch (its row) whose jobs are over."""
    template = batch["template"].get("template", {})
    where = f"{public_url}/api/v1/projects/{quote(batch['project'])}/batches/{batch['batch_id']}"
    submitted = batch["submitted_at"]
    creator = batch["created_by"] or {}
    return Completion(
        identifier=batch["batch_id"],
        revision=revision,
        project=batch["project"],
        experiment=creator.get("experiment"),
        what="batch",
        event=CompletionEvent.FINISHED,
        name=batch["name"] or batch["batch_id"],
        software=[
            Software(
                repository=one.get("repository") or template.get("repository"),
                commit=one.get("commit"),
                image=one.get("image"),
                command=[str(part) for part in template.get("command", [])],
            )
            for one in runs.software[:MAX_SOFTWARE] or [{}]
        ],
        created_at=submitted,
        ended_at=batch["finished_at"],
        creators=creators(creator, batch["owner"]),
        settings=settings,
        dataset=Dataset(
            format=CSV,
            bytes=table.bytes,
            sha256=table.sha256,
            download_url=f"{where}/results?format=csv",
            provenance_url=f"{where}/crate",
            time_start=runs.first_start or submitted,
            time_end=runs.last_end or batch["finished_at"] or at,
        ),
        related=[
            Related(identifier=one, relation="IsDerivedFrom", what="Equipment")
            for one in related_resources(template.get("labels", {}), runs.resources)
        ],
        counts=dict(runs.counts),
        publish=settings.enabled,
        at=at,
    )


def related_resources(labels: Mapping[str, Any], of_experiment: Sequence[str]) -> list[str]:
    """What a batch ran on: the resource that its label `resource` names, and its experiment's."""
    named = str(labels.get(RESOURCE_LABEL, ""))
    try:
        ids.parse(named, ids.RESOURCE)
    except ValueError:
        return list(of_experiment)
    return list(dict.fromkeys([named, *of_experiment]))


def of_resource(
    publication: Mapping[str, Any],
    owner: str | None,
    settings: PublicationSettings,
    *,
    at: datetime,
) -> Completion:
    """The completion of a resource (its publication's row), as its provisioner described it."""
    facts = ResourceFacts.of(publication["facts"])
    return Completion(
        identifier=publication["id"],
        revision=publication["revision"],
        project=publication["project"],
        experiment=facts.experiment,
        what=facts.what,
        event=facts.event,
        name=facts.name,
        description=facts.description,
        site=facts.site,
        image=facts.image,
        flavour=facts.flavour,
        created_at=facts.created_at,
        ended_at=facts.ended_at,
        creators=facts.creators or creators({}, owner),
        settings=settings,
        related=facts.related,
        job_id=publication["job_id"],
        publish=settings.enabled,
        at=at,
    )


def creators(claims: Mapping[str, Any], owner: str | None) -> list[Person]:
    """The person behind a token, by what it said of them; at the least the owner's subject."""
    about = {name: str(claims.get(name) or "") for name in _CLAIMS}
    first, last = about["given_name"], about["family_name"]
    if not (first or last):
        first, _, last = (about["name"] or about["preferred_username"]).rpartition(" ")
    subject = str(claims.get("sub") or owner or "")
    if not (first or last or subject):
        return []
    return [
        Person(
            first_name=first[:500],
            last_name=(last or ("" if first else subject))[:500],
            email=about["email"][:500],
            organization=about["organization"][:500],
            orcid=about["orcid"][:500],
        )
    ]


_CLAIMS = (
    "name",
    "given_name",
    "family_name",
    "preferred_username",
    "email",
    "organization",
    "orcid",
)
