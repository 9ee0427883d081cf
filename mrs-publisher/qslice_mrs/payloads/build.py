"""A completion as a digital object: pure, and the same every time for the same completion."""

from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from qslice import repositories
from qslice.messages.completion import Completion, CompletionEvent, Person, Related, Software

from qslice_mrs.payloads import models

Links = Literal["link", "text", "none"]

#: What we call things, for people.
_TITLES = {
    "batch": "Results of batch",
    "server": "Virtual machine",
    "pod": "Pod",
    "volume": "Volume",
    "floatingip": "Floating IP",
    "network": "Network",
}
_COMPILED_BY = "IsCompiledBy"


def document(completion: Completion, links: Links = "link") -> dict[str, Any]:
    """The object's JSON document, `$type` first; a dataset where there is one, else a resource."""
    model = models.TYPES["Dataset" if completion.dataset else completion.settings.resource_type]
    return model(**_common(completion, model, links), **_of_dataset(completion)).document()


def _common(completion: Completion, model: type[models.Base], links: Links) -> dict[str, Any]:
    given = completion.settings
    return {
        "type_": model.TYPE,
        "identifier": completion.identifier,
        "name": f"{_TITLES.get(completion.what, completion.what.capitalize())} {completion.name}",
        "description": describe(completion),
        "resource_type": model.TYPE,
        "created_at": _time(completion.created_at),
        "version": f"{completion.revision}.0",
        "creators": _creators(completion),
        "access_type": given.access_type,
        "access_mode": given.access_mode,
        "access_rights": given.access_rights,
        "rights": given.rights,
        "license": given.license,
        "license_uri": given.license_uri,
        "primary_languages": given.languages,
        "keywords": _keywords(completion),
        "subjects": given.subjects,
        "related_objects": _related(completion, links),
        "contact": _person(given.contact),
        "public_contact": _person(given.public_contact),
    }


def _of_dataset(completion: Completion) -> dict[str, Any]:
    dataset, given = completion.dataset, completion.settings
    if dataset is None:
        return {}
    return {
        "copyrights_holder": given.copyright_holder or _holder(completion),
        "date_time_start": _time(dataset.time_start),
        "date_time_end": _time(dataset.time_end),
        "scientific_domains": given.scientific_domains,
        "scientific_subdomains": given.scientific_subdomains,
        "provenance": _provenance(completion),
        "locations": [models.Location(location_name=given.location)] if given.location else [],
        "format": dataset.format,
        "byte_size": dataset.bytes,
        "file_metadata": f"sha256:{dataset.sha256}",
        "download_url": dataset.download_url,
    }


def describe(completion: Completion) -> str:
    """What it is, for a person who finds it: what was made, where, of what, when, for whom."""
    parts = [completion.description.strip()] if completion.description.strip() else []
    if completion.counts:
        total = sum(completion.counts.values())
        states = ", ".join(f"{count} {state}" for state, count in sorted(completion.counts.items()))
        parts.append(f"{total} run{'' if total == 1 else 's'}: {states}.")
    parts += [_ran(software) for software in completion.software]
    if completion.image or completion.flavour:
        made_of = [
            f"{name} {value}"
            for name, value in (("image", completion.image), ("flavour", completion.flavour))
            if value
        ]
        parts.append(f"Made from {', '.join(made_of)}.")
    if completion.site:
        parts.append(f"At {completion.site}.")
    whose = f"Project {completion.project}"
    if completion.experiment:
        whose += f", experiment {completion.experiment}"
    parts.append(f"{whose}.")
    if completion.ended_at and completion.event is CompletionEvent.ENDED:
        parts.append(
            f"In use from {_time(completion.created_at)} to {_time(completion.ended_at)}; "
            "it exists no more."
        )
    return " ".join(parts)


def _ran(software: Software) -> str:
    text = f"Command {' '.join(software.command)!r}" if software.command else "Software"
    if software.repository:
        text += f" of {software.repository}"
    if software.commit:
        text += f" at commit {software.commit}"
    if software.image:
        text += f", in image {software.image}"
    return f"{text}."


def _provenance(completion: Completion) -> str:
    parts = [_ran(software) for software in completion.software]
    if completion.dataset and completion.dataset.provenance_url:
        parts.append(f"RO-Crate: {completion.dataset.provenance_url}")
    return " ".join(parts)


def _creators(completion: Completion) -> list[models.Contact]:
    people = completion.creators or completion.settings.creators
    if not people:
        people = [Person(last_name=f"Project {completion.project}")]
    return [contact for person in people if (contact := _person(person))]


def _holder(completion: Completion) -> str:
    first = _creators(completion)[0]
    return first.organization or f"{first.first_name} {first.last_name}".strip()


def _person(person: Person | None) -> models.Contact | None:
    if person is None:
        return None
    return models.Contact(
        first_name=person.first_name,
        last_name=person.last_name,
        email=person.email,
        organization=person.organization,
        website=person.website,
        orc_id=person.orcid or None,
    )


def _keywords(completion: Completion) -> list[str]:
    """Our identifier is the first: by it the object is found where `identifier` was replaced."""
    state = "ended" if completion.event is CompletionEvent.ENDED else None
    words = [
        completion.identifier,
        completion.project,
        completion.what,
        completion.experiment,
        state,
        "qslice",
        *completion.settings.keywords,
    ]
    return list(dict.fromkeys(word for word in words if word))


def _related(completion: Completion, links: Links) -> list[models.RelationLink | str]:
    if links == "none":
        return []
    related = [
        Related(identifier=address, relation=_COMPILED_BY, what="Software")
        for software in completion.software
        if (address := source_address(software))
    ]
    return [_link(one, links) for one in (*related, *completion.related)]


def source_address(software: Software) -> str | None:
    """`git+https://host/repository.git@commit`, as SPDX writes where software comes from."""
    if not software.repository:
        return None
    address = f"git+{repositories.split(software.repository).geturl()}"
    return f"{address}@{software.commit}" if software.commit else address


def _link(related: Related, links: Links) -> models.RelationLink | str:
    if links == "text":
        return related.identifier
    is_address = bool(urlsplit(related.identifier).scheme) and "/" in related.identifier
    return models.RelationLink(
        identifier=models.Identifier(type="URL" if is_address else None, value=related.identifier),
        relationship_type=related.relation,
        resource_type=related.what,
    )


def _time(moment: datetime) -> str:
    """UTC with milliseconds and a Z; a time without a zone is taken as UTC."""
    known = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return known.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
