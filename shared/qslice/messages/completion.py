"""What was made or ended, told to the metadata publisher, and what the registry said to it.

The ledger writes a `Completion` for every finished batch and for every resource that was made or
has ended (exchange `qslice.events`, key `<project>.<what>.completion`). It is complete in itself:
the publisher needs neither the database nor an earlier message, and of two that arrive in the
wrong order the higher `revision` counts. The answer is a `PublicationReport` (same exchange, key
`<project>.mrs.<state>`).
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from qslice.faults import Error
from qslice.messages.base import Message, Note

#: The last part of a completion's routing key, and the middle one of a report's.
COMPLETION = "completion"
REPORT = "mrs"

Line = Annotated[str, StringConstraints(max_length=500)]
Words = Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=100)]], Field()]


class Person(Message):
    """A creator or a contact."""

    first_name: Line = ""
    last_name: Line = ""
    email: Line = ""
    organization: Line = ""
    website: Line = ""
    orcid: Line = ""


class PublicationSettings(Message):
    """What a project says of everything that is published for it; a lab edits it by REST."""

    #: False: nothing more is published; what was published stays as it is.
    enabled: bool = True
    access_type: Literal["Remote", "Physical", "Virtual", "Other"] = "Remote"
    access_mode: Literal["Free", "FreeConditionally", "ExcellenceBased"] = "FreeConditionally"
    access_rights: Line = "On request to the project"
    rights: Line = "Standard usage rights apply"
    #: An SPDX identifier, such as `CC-BY-4.0`; empty: none was given.
    license: Line = ""
    license_uri: Line = ""
    copyright_holder: Line = ""
    languages: Words = ["en"]
    keywords: Words = []
    subjects: Words = []
    scientific_domains: Words = ["Natural Sciences"]
    scientific_subdomains: Words = ["Physical sciences"]
    #: Creators of what no person's token was behind (a lab script's jobs).
    creators: Annotated[list[Person], Field(max_length=100)] = []
    contact: Person | None = None
    public_contact: Person | None = None
    #: Where the equipment stands.
    location: Line = ""
    #: The registry's type for a resource: `Base` is the one that SLICES' own guide uses.
    resource_type: Literal["Base", "Resource", "Service"] = "Base"


class Software(Note):
    """What ran: a commit of a repository, in an image."""

    repository: str | None = None
    commit: str | None = None
    #: The image's name with its digest.
    image: str | None = None
    #: As it was written, with placeholders where it was a template.
    command: list[str] = []


class Dataset(Note):
    """The file that holds a batch's results."""

    format: str
    bytes: int
    sha256: str
    download_url: str
    #: Where the provenance record (an RO-Crate) is.
    provenance_url: str | None = None
    #: From the first start to the last end.
    time_start: datetime
    time_end: datetime


class Related(Note):
    """A link to another thing: one of ours by its identifier, or any by its address."""

    identifier: str
    #: A DataCite relation: `IsCompiledBy`, `IsDerivedFrom`, …
    relation: str
    #: The registry's word for what it is: `Dataset`, `Software`, `Equipment`, …
    what: str


class CompletionEvent(StrEnum):
    FINISHED = "finished"
    CREATED = "created"
    ENDED = "ended"


class Completion(Note):
    """One object of the registry as it is to be now."""

    type: Literal["completion"] = "completion"
    #: Our TypeID of the thing: the key under which it is registered once.
    identifier: str
    #: Grows with every change of the thing and every replay; an older one never overwrites a
    #: newer, and one that the registry has is not written again.
    revision: Annotated[int, Field(ge=1)] = 1
    project: str
    experiment: str | None = None
    #: `batch`, `server`, `pod`, `volume`, `floatingip`, …
    what: str
    event: CompletionEvent
    name: str
    description: str = ""
    #: The cloud, cluster or site it is at.
    site: str | None = None
    image: str | None = None
    flavour: str | None = None
    software: list[Software] = []
    created_at: datetime
    ended_at: datetime | None = None
    creators: list[Person] = []
    settings: PublicationSettings = PublicationSettings()
    dataset: Dataset | None = None
    related: list[Related] = []
    #: Jobs of a batch by their state.
    counts: dict[str, int] = {}
    job_id: str | None = None
    #: False: pass it over.
    publish: bool = True
    at: datetime


class ResourceFacts(Note):
    """What a provisioner says in `data` of a `resource` event, for it to be published.

    Each says all that is known: a later one may overtake an earlier.
    """

    #: The resource's TypeID, `r_…`.
    identifier: str
    what: str
    event: CompletionEvent
    name: str
    description: str = ""
    site: str | None = None
    image: str | None = None
    flavour: str | None = None
    experiment: str | None = None
    created_at: datetime
    ended_at: datetime | None = None
    creators: list[Person] = []
    related: list[Related] = []


class PublicationState(StrEnum):
    #: To be told to the publisher, or told and without an answer yet.
    PENDING = "pending"
    PUBLISHED = "published"
    #: The registry did not take it yet; it is tried again.
    DELAYED = "delayed"
    #: Given up; it can be replayed.
    FAILED = "failed"
    #: The project publishes nothing; it can be replayed when it does.
    WITHHELD = "withheld"


class PublicationReport(Note):
    """What the registry said to a completion."""

    type: Literal["publication"] = "publication"
    identifier: str
    revision: int
    project: str
    state: PublicationState
    #: The registry's own id of the object.
    internal_id: int | None = None
    portal_url: str | None = None
    #: What was done with it.
    action: Literal["created", "updated", "unchanged"] | None = None
    error: Error | None = None
    #: How often it was tried, this time included.
    attempts: int = 1
    at: datetime
