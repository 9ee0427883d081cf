"""What a digital object must be to be accepted: pure checks on the raw bytes and the document.

The real server reads bodies with System.Text.Json, whose type discriminator must be the first
property and whose required properties must be present (null is a value, absence is not).
"""

import re
from datetime import datetime
from typing import Any

import orjson

#: Lower-case name → as the server writes it, and the last part of its search path.
TYPES = {
    "base": ("Base", "base"),
    "dataset": ("Dataset", "datasets"),
    "snsdataset": ("SnsDataset", "sns-datasets"),
    "publication": ("Publication", "publications"),
    "service": ("Service", "services"),
    "catalogue": ("Catalogue", "catalogues"),
    "resource": ("Resource", "resources"),
    "slicesnode": ("SlicesNode", "slicesNodes"),
}
GLOBAL = "global"
SEARCH_PATHS = {GLOBAL: None} | {path: name for name, path in TYPES.values()}

ACCESS_TYPES = frozenset({"Remote", "Physical", "Virtual", "Other"})
ACCESS_MODES = frozenset({"Free", "FreeConditionally", "ExcellenceBased"})

#: Set by the server. A create leaves them out or null; an update has them, null or unchanged.
READ_ONLY = ("internalIdentifier", "systemCreationDate", "metadataProfile")
REQUIRED = (
    "identifier",
    "name",
    "resourceType",
    "createdAt",
    "version",
    "creators",
    "keywords",
    "accessType",
    "accessMode",
    "accessRights",
    "rights",
    "license",
)
DATASET_REQUIRED = ("dateTimeStart", "dateTimeEnd")
METADATA_PROFILE = "Slices_V0_2"

_LISTS = (
    "creators",
    "contributors",
    "keywords",
    "subjects",
    "primaryLanguages",
    "otherLanguages",
    "requiredObjects",
    "relatedObjects",
    "scientificDomains",
    "scientificSubdomains",
    "locations",
)
_PERSON = ("firstName", "lastName", "email", "organization")
_LINK = frozenset({"identifier", "relationshipType", "resourceType"})
_FIRST_KEY = re.compile(rb'^[ \t\r\n]*\{[ \t\r\n]*"((?:[^"\\]|\\.)*)"[ \t\r\n]*:')


class Rejected(ValueError):
    """A 400: `errors` maps a JSON path to its messages, as ASP.NET Core answers."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.errors = {path: [message]}


def read(body: bytes, *, update: bool, read_only_null: bool = True) -> dict[str, Any]:
    """The document in a body; raises `Rejected`.

    An update is the complete object. `read_only_null`: it must hold the read-only properties
    too, as null or unchanged (what the newer builds ask for); otherwise they must be left out.
    """
    first = _FIRST_KEY.match(body)
    if first is None or first[1] not in (b"$type", b"\\u0024type"):
        raise Rejected(
            "$",
            "The JSON payload for polymorphic interface or abstract type 'DigitalObjectModel' "
            "must specify a type discriminator: '$type' must be the first property.",
        )
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as wrong:
        raise Rejected("$", f"The JSON is not valid: {wrong}") from None
    check(document, update=update, read_only_null=read_only_null)
    return dict(document)


def check(document: dict[str, Any], *, update: bool, read_only_null: bool = True) -> None:
    """Raise `Rejected` where a document is no digital object."""
    type_ = document["$type"]
    if not isinstance(type_, str) or type_.lower() not in TYPES:
        raise Rejected("$.$type", f"Unrecognized type discriminator id '{str(type_)[:80]}'.")
    document["$type"] = TYPES[type_.lower()][0]
    required: tuple[str, ...] = REQUIRED
    if type_.lower() in ("dataset", "snsdataset"):
        required += DATASET_REQUIRED
    if update and read_only_null:
        required += READ_ONLY
    missing = [name for name in required if name not in document]
    if missing:
        raise Rejected(
            "$",
            f"JSON deserialization for type 'DigitalObjectModel_{document['$type']}' was missing "
            f"required properties: {', '.join(missing)}",
        )
    if update and not read_only_null:
        for name in READ_ONLY:
            if name in document:
                raise Rejected(f"$.{name}", "The property is read-only.")
    if not update:
        for name in READ_ONLY:
            if document.get(name) is not None:
                raise Rejected(f"$.{name}", "The property is set by the server.")
    _check_values(document)


def _check_values(document: dict[str, Any]) -> None:
    for name in ("identifier", "name", "version"):
        value = document[name]
        if not isinstance(value, str) or not value:
            raise Rejected(f"$.{name}", f"The {name} field is required.")
    if str(document["resourceType"]).lower() != document["$type"].lower():
        raise Rejected("$.resourceType", f"Must be '{document['$type']}', as $type says.")
    if document["accessType"] not in ACCESS_TYPES:
        raise Rejected("$.accessType", f"Must be one of {', '.join(sorted(ACCESS_TYPES))}.")
    if document["accessMode"] not in ACCESS_MODES:
        raise Rejected("$.accessMode", f"Must be one of {', '.join(sorted(ACCESS_MODES))}.")
    for name in ("createdAt", "dateTimeStart", "dateTimeEnd"):
        if document.get(name) is not None:
            _check_time(name, document[name])
    size = document.get("byteSize")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise Rejected("$.byteSize", "The JSON value could not be converted to System.Int64.")
    for name in _LISTS:
        if name in document and not isinstance(document[name], list):
            raise Rejected(f"$.{name}", "The JSON value could not be converted to a list.")
    if not all(isinstance(word, str) for word in document["keywords"]):
        raise Rejected("$.keywords", "The JSON value could not be converted to System.String.")
    for name in ("creators", "contributors"):
        for index, person in enumerate(document.get(name, [])):
            _check_person(f"$.{name}[{index}]", person)
    for name in ("contact", "publicContact"):
        if document.get(name) is not None:
            _check_person(f"$.{name}", document[name])
    for name in ("requiredObjects", "relatedObjects"):
        for index, link in enumerate(document.get(name, [])):
            if not isinstance(link, dict) or not link.get("identifier") or set(link) - _LINK:
                raise Rejected(f"$.{name}[{index}]", "Is no relation link with an identifier.")


def _check_time(name: str, value: Any) -> None:
    try:
        if not isinstance(value, str) or "T" not in value:
            raise ValueError
        datetime.fromisoformat(value)
    except ValueError:
        raise Rejected(
            f"$.{name}", "The JSON value could not be converted to System.DateTimeOffset."
        ) from None


def _check_person(path: str, person: Any) -> None:
    if not isinstance(person, dict):
        raise Rejected(path, "The JSON value could not be converted to a person.")
    missing = [name for name in _PERSON if name not in person]
    if missing:
        raise Rejected(path, f"was missing required properties: {', '.join(missing)}")
