"""A batch's record as RO-Crate 1.1 metadata under the Process Run Crate profile 0.5. Pure.

Sources: w3id.org/ro/crate/1.1 and w3id.org/ro/wfrun/process/0.5 (sections "Requirements",
"Representing environment variable settings", "Representing container images").
"""

import re
import shlex
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from qslice import repositories

from qslice_gateway.provenance.record import BatchRecord, Execution, File

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
CRATE = "https://w3id.org/ro/crate/1.1"
CONTEXT = [
    "https://w3id.org/ro/crate/1.1/context",
    "https://w3id.org/ro/terms/workflow-run/context",
]
METADATA = "ro-crate-metadata.json"
_DOCKER_IMAGE = "https://w3id.org/ro/terms/workflow-run#DockerImage"
_NO_LICENCE = "#no-licence"
_SPDX = "https://spdx.org/licenses/"
_SPDX_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9.+-]{1,60}$")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")

Entity = dict[str, Any]


class Graph:
    """Entities by their id: each once, however often it is named."""

    def __init__(self) -> None:
        self._entities: dict[str, Entity] = {}

    def add(self, entity: Entity) -> Entity:
        """Put an entity in unless it is there; a reference to it."""
        self._entities.setdefault(entity["@id"], _filled(entity))
        return {"@id": entity["@id"]}

    def complete(self, identifier: str, more: Entity) -> None:
        """Add to an entity that is there."""
        self._entities[identifier].update(_filled(more))

    def document(self) -> Entity:
        return {"@context": CONTEXT, "@graph": list(self._entities.values())}


def _filled(entity: Entity) -> Entity:
    return {
        key: value
        for key, value in entity.items()
        # Of a value the empty text is one too.
        if value not in (None, "", [], {}) or key == "value"
    }


def metadata(record: BatchRecord) -> Entity:
    """The document of `ro-crate-metadata.json`."""
    graph = Graph()
    graph.add(
        {
            "@id": METADATA,
            "@type": "CreativeWork",
            "conformsTo": {"@id": CRATE},
            "about": {"@id": "./"},
        }
    )
    graph.add({"@id": "./", "@type": "Dataset"})
    agent = _agent(graph, record)
    files = [_file(graph, file) for file in record.files]
    outputs = [graph.add(_output(execution)) for execution in record.executions if execution.file]
    actions = [_action(graph, record, execution, agent) for execution in record.executions]
    graph.complete("./", _root(graph, record, agent, [*files, *outputs], actions))
    return graph.document()


def _root(
    graph: Graph, record: BatchRecord, agent: Entity, parts: list[Entity], actions: list[Entity]
) -> Entity:
    profile = graph.add(
        {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    )
    states = ", ".join(f"{count} {state}" for state, count in sorted(record.counts.items()))
    return {
        "conformsTo": profile,
        "name": record.name,
        "description": (
            f"Results of batch {record.batch_id} of project {record.project}: {states}."
        ),
        "identifier": record.batch_id,
        "url": record.url,
        "dateCreated": _time(record.submitted_at),
        "datePublished": _time(record.finished_at),
        "license": _licence(graph, record),
        "copyrightHolder": record.licence.copyright_holder,
        "author": agent,
        "publisher": graph.add(
            {
                "@id": "#project",
                "@type": "Organization",
                "name": f"Project {record.project}",
                "url": record.url.partition("/batches/")[0],
            }
        ),
        "keywords": ", ".join(dict.fromkeys([record.project, *record.keywords])),
        "sameAs": {"@id": record.registry_url} if record.registry_url else None,
        "isPartOf": _experiment(graph, record),
        "hasPart": parts,
        "mentions": actions,
    }


def _licence(graph: Graph, record: BatchRecord) -> Entity:
    given = record.licence
    if given.uri:
        address = given.uri
    elif _SPDX_NAME.match(given.name):
        address = _SPDX + given.name
    elif given.name:
        address = "#licence"
    else:
        return graph.add(
            {
                "@id": _NO_LICENCE,
                "@type": "CreativeWork",
                "name": "No licence was given",
                "description": f"Ask the project {record.project} before using the results.",
            }
        )
    name = given.name or given.uri
    return graph.add(
        {
            "@id": quote(address, safe=":/#?&=%+~.,;@!$'()*[]"),
            "@type": "CreativeWork",
            "name": name,
            "description": f"The results may be used under {name}.",
        }
    )


def _experiment(graph: Graph, record: BatchRecord) -> Entity | None:
    if not record.experiment:
        return None
    return graph.add(
        {
            "@id": f"#{_local(record.experiment)}",
            "@type": "CreativeWork",
            "name": f"Experiment {record.experiment}",
            "identifier": record.experiment,
        }
    )


def _agent(graph: Graph, record: BatchRecord) -> Entity:
    who = record.agent
    organization = (
        graph.add(
            {
                "@id": f"#organization-{_local(who.organization)}",
                "@type": "Organization",
                "name": who.organization,
            }
        )
        if who.organization
        else None
    )
    orcid = re.search(r"\d{4}-\d{4}-\d{4}-\d{3}[\dX]", who.orcid)
    return graph.add(
        {
            "@id": f"https://orcid.org/{orcid[0]}" if orcid else f"#person-{_local(who.subject)}",
            "@type": "Person",
            "name": who.name or who.subject,
            "email": who.email,
            "affiliation": organization,
            "identifier": who.subject,
        }
    )


def _file(graph: Graph, file: File) -> Entity:
    return graph.add(
        {
            "@id": quote(file.path),
            "@type": "File",
            "name": file.name,
            "description": file.description,
            "encodingFormat": file.media_type,
            "contentSize": str(file.bytes),
            "sha256": file.sha256,
        }
    )


def _output(execution: Execution) -> Entity:
    return {
        "@id": quote(execution.file or ""),
        "@type": "File",
        "name": f"Output of {execution.job_id}",
        "description": "State, result, standard output and standard error",
        "encodingFormat": "application/json",
    }


def _action(graph: Graph, record: BatchRecord, execution: Execution, agent: Entity) -> Entity:
    status = "CompletedActionStatus" if execution.succeeded else "FailedActionStatus"
    point = ", ".join(f"{name}={value}" for name, value in execution.parameters.items())
    return graph.add(
        {
            "@id": f"#{execution.job_id}",
            "@type": "CreateAction",
            "name": f"{record.name}: {point}" if point else f"{record.name}: {execution.job_id}",
            "description": shlex.join(execution.command),
            "identifier": execution.job_id,
            "instrument": _software(graph, execution),
            "agent": agent,
            "object": [
                *({"@id": quote(path)} for path in execution.inputs),
                *(
                    _value(graph, "parameter", name, value)
                    for name, value in execution.parameters.items()
                ),
            ],
            "environment": [
                _value(graph, "environment", name, value) for name, value in execution.env.items()
            ],
            "result": [{"@id": quote(path)} for path in execution.outputs],
            "startTime": _time(execution.started_at),
            "endTime": _time(execution.finished_at),
            "containerImage": _image(graph, execution),
            "actionStatus": f"http://schema.org/{status}",
            "error": None if execution.succeeded else (execution.error or execution.state),
        }
    )


def _software(graph: Graph, execution: Execution) -> Entity:
    """The experiment's repository at a commit; the tool that was executed."""
    if not execution.repository:
        return graph.add(
            {"@id": "#software", "@type": "SoftwareApplication", "name": "Unknown software"}
        )
    parts = repositories.split(execution.repository)
    address = parts.geturl()
    identity = f"{address}@{execution.commit}" if execution.commit else address
    return graph.add(
        {
            "@id": identity,
            "@type": ["SoftwareApplication", "SoftwareSourceCode"],
            "name": parts.path.rstrip("/").rpartition("/")[2].removesuffix(".git"),
            "url": address,
            "codeRepository": address,
            "version": execution.commit,
        }
    )


def _image(graph: Graph, execution: Execution) -> Entity | None:
    digest = (execution.image_digest or "").removeprefix("sha256:")
    if not (execution.image or digest):
        return None
    name, _, tag = (execution.image or f"sha256:{digest}").rpartition(":")
    return graph.add(
        {
            "@id": f"#image-{_local(digest or execution.image or '')}",
            "@type": "ContainerImage",
            "additionalType": {"@id": _DOCKER_IMAGE},
            # Built on the worker's host from the commit, and pushed nowhere.
            "registry": "localhost",
            "name": name or tag,
            "tag": tag if name else None,
            "sha256": digest,
        }
    )


def _value(graph: Graph, kind: str, name: str, value: Any) -> Entity:
    shown = "null" if value is None else value
    return graph.add(
        {
            "@id": f"#{kind}-{_local(name)}-{_local(str(shown))}",
            "@type": "PropertyValue",
            "name": name,
            "value": shown,
        }
    )


def _local(text: str) -> str:
    """A text as a part of a local identifier; different texts stay different."""
    plain = _UNSAFE.sub("-", text)[:80]
    return plain if plain == text else f"{plain}-{sha256(text.encode()).hexdigest()[:12]}"


def _time(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    known = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return known.astimezone(UTC).isoformat(timespec="milliseconds")
