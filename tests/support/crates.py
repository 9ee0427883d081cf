"""What RO-Crate 1.1 and the Process Run Crate profile 0.5 ask for with MUST, checked."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import unquote

Entity = dict[str, Any]
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_ACTIONS = {"CreateAction", "ActivateAction", "UpdateAction"}
_TOOLS = {"SoftwareApplication", "SoftwareSourceCode", "ComputationalWorkflow"}


def check(document: Entity, files: set[str]) -> list[str]:
    """What a metadata document breaks; `files`: the paths that are in the crate."""
    wrong: list[str] = []
    if "https://w3id.org/ro/crate/1.1/context" not in document.get("@context", []):
        wrong.append("@context: RO-Crate 1.1 is missing")
    graph = document["@graph"]
    entities = {entity["@id"]: entity for entity in graph}
    if len(entities) != len(graph):
        wrong.append("@graph: two entities have one @id")
    wrong += [f"{entity['@id']}: has no @type" for entity in graph if not entity.get("@type")]
    wrong += _descriptor(entities)
    root = entities.get("./", {})
    wrong += _root(root, entities)
    wrong += _parts(root, entities, files)
    wrong += _references(graph, entities)
    wrong += _actions(root, graph, entities)
    return wrong


def _types(entity: Entity) -> set[str]:
    found = entity.get("@type", [])
    return {found} if isinstance(found, str) else set(found)


def _ids(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [one["@id"] for one in values if isinstance(one, dict) and "@id" in one]


def _descriptor(entities: dict[str, Entity]) -> list[str]:
    """Specification, "RO-Crate Metadata File Descriptor"."""
    found = entities.get("ro-crate-metadata.json")
    if found is None:
        return ["ro-crate-metadata.json: is not described"]
    wrong = []
    if found.get("@type") != "CreativeWork":
        wrong.append("descriptor: @type must be CreativeWork")
    if _ids(found.get("about")) != ["./"]:
        wrong.append("descriptor: about must be the root")
    if _ids(found.get("conformsTo")) != ["https://w3id.org/ro/crate/1.1"]:
        wrong.append("descriptor: conformsTo must be RO-Crate 1.1")
    return wrong


def _root(root: Entity, entities: dict[str, Entity]) -> list[str]:
    """Specification, "Direct properties of the Root Data Entity"; profile, "Dataset"."""
    wrong = []
    if "Dataset" not in _types(root):
        wrong.append("root: @type must be Dataset")
    wrong += [
        f"root: {name} is missing"
        for name in ("name", "description", "datePublished", "license")
        if not root.get(name)
    ]
    try:
        datetime.fromisoformat(root.get("datePublished", ""))
    except ValueError:
        wrong.append("root: datePublished is no ISO 8601 date")
    if not any(
        "CreativeWork" in _types(entities.get(one, {})) for one in _ids(root.get("license"))
    ):
        wrong.append("root: license is no contextual entity")
    profile = entities.get(PROFILE, {})
    if PROFILE not in _ids(root.get("conformsTo")) or "CreativeWork" not in _types(profile):
        wrong.append("root: conformsTo must name the profile, a CreativeWork")
    return wrong


def _parts(root: Entity, entities: dict[str, Entity], files: set[str]) -> list[str]:
    """Specification, "Data entities": each is linked from the root, and is there."""
    parts = set(_ids(root.get("hasPart")))
    described = {
        identifier
        for identifier, entity in entities.items()
        if "File" in _types(entity) and "://" not in identifier
    }
    wrong = [f"{one}: is no part of the root" for one in described - parts]
    wrong += [f"{one}: is a part and not described" for one in parts - set(entities)]
    wrong += [f"{one}: is not in the crate" for one in described if unquote(one) not in files]
    return wrong


def _references(graph: list[Entity], entities: dict[str, Entity]) -> list[str]:
    """What starts with # must be described here."""
    wrong = []
    for entity in graph:
        for name, value in entity.items():
            wrong += [
                f"{entity['@id']}: {name} refers to {one}, which is not described"
                for one in _ids(value)
                if one not in entities and ("://" not in one)
            ]
            if any(isinstance(one, dict) and set(one) != {"@id"} for one in _list(value)):
                wrong.append(f"{entity['@id']}: {name} is not flattened")
    return wrong


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _actions(root: Entity, graph: list[Entity], entities: dict[str, Entity]) -> list[str]:
    """Profile, "SoftwareApplication" and "CreateAction"."""
    actions = [entity for entity in graph if _types(entity) & _ACTIONS]
    wrong = [] if actions else ["no action is described"]
    mentioned = set(_ids(root.get("mentions")))
    for action in actions:
        name = action["@id"]
        if name not in mentioned:
            wrong.append(f"{name}: is not mentioned by the root")
        tools = _ids(action.get("instrument"))
        if not tools:
            wrong.append(f"{name}: has no instrument")
        wrong += [
            f"{name}: its instrument {tool} is no software"
            for tool in tools
            if not _types(entities.get(tool, {})) & _TOOLS
        ]
        if "error" in action and "Failed" not in str(action.get("actionStatus")):
            wrong.append(f"{name}: has an error and did not fail")
    return wrong
