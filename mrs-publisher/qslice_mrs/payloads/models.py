"""The eight types of digital objects, as API v0.2 of the registry takes them.

`Base` and `Dataset` are as public programs send them. For the other types only their names are
public; they are `Base` with their own `$type`. Fields without a value are left out, but for those
that the known payloads always have.
"""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

AccessType = Literal["Remote", "Physical", "Virtual", "Other"]
AccessMode = Literal["Free", "FreeConditionally", "ExcellenceBased"]


class _Part(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )


class Contact(_Part):
    first_name: str = ""
    last_name: str = ""
    email: str = ""
    organization: str = ""
    website: str = ""
    orc_id: str | None = None


class Identifier(_Part):
    """`type` is DOI, URL, ORCID or arXiv; absent: another scheme."""

    type: Literal["DOI", "URL", "ORCID", "arXiv"] | None = None
    value: str


class RelationLink(_Part):
    identifier: Identifier
    relationship_type: str
    resource_type: str


class Location(_Part):
    location_name: str


class Base(_Part):
    """What every type has, in the order of the payload that is known to be taken."""

    #: As the registry writes the type.
    TYPE: ClassVar[str] = "Base"

    type_: str = Field(alias="$type")
    identifier: str = Field(min_length=1, max_length=512)
    name: str = Field(min_length=1)
    description: str = ""
    resource_type: str
    created_at: str
    version: str = Field(min_length=1)
    creators: list[Contact] = Field(min_length=1)
    contributors: list[Contact] = []
    access_type: AccessType
    access_mode: AccessMode
    access_rights: str
    rights: str
    license: str = ""
    license_uri: str = ""
    primary_languages: list[str] = ["en"]
    other_languages: list[str] = []
    keywords: list[str]
    subjects: list[str] = []
    required_objects: list[RelationLink | str] = []
    related_objects: list[RelationLink | str] = []
    contact: Contact | None = None
    public_contact: Contact | None = None

    def document(self) -> dict[str, Any]:
        """The JSON document, `$type` first."""
        return self.model_dump(by_alias=True, exclude_none=True)


class Dataset(Base):
    TYPE = "Dataset"

    copyrights_holder: str = ""
    date_time_start: str
    date_time_end: str
    scientific_domains: list[str] = []
    scientific_subdomains: list[str] = []
    provenance: str = ""
    locations: list[Location] = []
    format: str
    compression_format: str = ""
    byte_size: int = Field(ge=0)
    #: Free text; holds the checksum, for which the registry has no field.
    file_metadata: str = ""
    download_url: str


class SnsDataset(Dataset):
    TYPE = "SnsDataset"


class Publication(Base):
    TYPE = "Publication"


class Service(Base):
    TYPE = "Service"


class Catalogue(Base):
    TYPE = "Catalogue"


class Resource(Base):
    TYPE = "Resource"


class SlicesNode(Base):
    TYPE = "SlicesNode"


TYPES: dict[str, type[Base]] = {
    model.TYPE: model
    for model in (Base, Dataset, SnsDataset, Publication, Service, Catalogue, Resource, SlicesNode)
}
