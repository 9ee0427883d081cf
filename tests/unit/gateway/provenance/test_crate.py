"""A batch's crate: valid under the profile, complete, and the same every time."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from qslice_gateway.provenance import archive, crate
from qslice_gateway.provenance.record import Agent, BatchRecord, Licence
from rocrate.rocrate import ROCrate

from tests.support.crates import check

BEGIN = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
DOCUMENT: dict[str, Any] = {
    "template": {
        "repository": "git@git.example:qkd/bb84.git",
        "command": ["python", "/app/bb84.py", "--distance", "{distance}", "two words"],
        "env": {"SEED": "{seed}", "API_TOKEN": "hunter2"},
    },
    "grid": [["distance", [0, 10]], ["seed", ["a/b", "a?b"]]],
}


def item(index: int, **given: Any) -> dict[str, Any]:
    point = {"distance": [0, 0, 10, 10][index % 4], "seed": ["a/b", "a?b"][index % 2]}
    return {
        "job_id": f"job_localhost_{index:026d}",
        "id": None,
        "project": "lab",
        "kind": "run",
        "state": "succeeded",
        "attempt": 1,
        "batch_id": "batch_localhost_1",
        "batch_index": index,
        "labels": {},
        "worker": "w1",
        "submitted_at": BEGIN,
        "started_at": BEGIN + timedelta(seconds=index),
        "finished_at": BEGIN + timedelta(seconds=index + 1),
        "parameters": point,
        "duration_s": 1.0,
        "exit_code": 0,
        "stdout": "ok",
        "stderr": "",
        "truncated": False,
        "result": {"rate": 0.1 * index},
        "error": None,
        "commit": "c" * 40,
        "image": "qslice-run:abc",
        "image_digest": "sha256:" + "d" * 64,
        **given,
    }


def failed(index: int) -> dict[str, Any]:
    error = {"owner": "user", "code": "exit_code", "message": "it ended with 1"}
    return item(index, state="failed", exit_code=1, result=None, error=error)


def record(**given: Any) -> BatchRecord:
    return BatchRecord(
        **{
            "batch_id": "batch_localhost_1",
            "project": "lab",
            "name": "key rate against distance",
            "url": "https://qslice.example/api/v1/projects/lab/batches/batch_localhost_1",
            "submitted_at": BEGIN,
            "finished_at": BEGIN + timedelta(minutes=1),
            "counts": {"succeeded": 3, "failed": 1},
            "agent": Agent("user_x", "Alice Liddell", "alice@example.org", "QKD lab"),
            **given,
        }
    )


ITEMS = [item(0), item(1), item(2), failed(3)]


def written(items: list[dict[str, Any]] = ITEMS, **given: Any) -> zipfile.ZipFile:
    out = io.BytesIO()
    archive.write(out, record(**given), DOCUMENT, ["rate"], lambda: [items])
    return zipfile.ZipFile(out)


def metadata(crate_file: zipfile.ZipFile) -> dict[str, Any]:
    return dict(json.loads(crate_file.read("ro-crate-metadata.json")))


def entities(crate_file: zipfile.ZipFile) -> dict[str, dict[str, Any]]:
    return {entity["@id"]: entity for entity in metadata(crate_file)["@graph"]}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"licence": Licence("CC-BY-4.0")},
        {"licence": Licence("Our own", "https://lab.example/licence", "The lab")},
        {"licence": Licence("a licence in words")},
        {"experiment": "exp_localhost_1", "registry_url": "https://portal.example/view/7"},
        {"agent": Agent("Nobody @ nowhere")},
        {"agent": Agent("x", "A", orcid="https://orcid.org/0000-0002-1825-0097")},
    ],
    ids=lambda given: next(iter(given), "plain"),
)
def test_a_crate_keeps_what_the_specification_and_the_profile_demand(given: dict[str, Any]) -> None:
    made = written(**given)
    assert check(metadata(made), set(made.namelist())) == []


def test_an_independent_library_reads_it(tmp_path: Path) -> None:
    written().extractall(tmp_path)
    read = ROCrate(tmp_path)
    assert read.name == "key rate against distance"
    actions = [entity for entity in read.get_entities() if entity.type == "CreateAction"]
    assert len(actions) == 4
    for action in actions:
        assert action["instrument"]["codeRepository"] == "ssh://git@git.example/qkd/bb84.git"
        assert action["instrument"]["version"] == "c" * 40
        assert action["agent"]["name"] == "Alice Liddell"
        assert action["containerImage"]["sha256"] == "d" * 64


def test_each_job_is_an_action_with_its_command_parameters_times_and_output() -> None:
    found = entities(written())
    action = found["#job_localhost_00000000000000000000000002"]
    assert action["description"] == "python /app/bb84.py --distance 10 'two words'"
    parameters = [found[one["@id"]] for one in action["object"] if one["@id"].startswith("#")]
    assert {(one["name"], one["value"]) for one in parameters} == {
        ("distance", 10),
        ("seed", "a/b"),
    }
    assert action["startTime"] == "2026-03-01T09:00:02.000+00:00"
    assert action["endTime"] == "2026-03-01T09:00:03.000+00:00"
    assert {one["@id"] for one in action["result"]} == {
        "results.csv",
        "results.json",
        "jobs/000002-job_localhost_00000000000000000000000002.json",
    }


def test_a_failed_job_is_a_failed_action_with_its_error() -> None:
    action = entities(written())["#job_localhost_00000000000000000000000003"]
    assert action["actionStatus"] == "http://schema.org/FailedActionStatus"
    assert action["error"] == "it ended with 1"


def test_values_that_look_alike_in_an_identifier_stay_apart() -> None:
    found = entities(written())
    seeds = {one["value"] for one in found.values() if one.get("name") == "seed"}
    assert seeds == {"a/b", "a?b"}


def test_a_zero_and_an_empty_text_are_values_too() -> None:
    document = {**DOCUMENT, "grid": None}
    document = {"template": DOCUMENT["template"], "list": [{"distance": 0, "seed": ""}]}
    out = io.BytesIO()
    items = [item(0, parameters={"distance": 0, "seed": ""})]
    archive.write(out, record(), document, ["rate"], lambda: [items])
    found = entities(zipfile.ZipFile(out))
    values = {
        one["name"]: one["value"] for one in found.values() if one["@type"] == "PropertyValue"
    }
    assert (values["distance"], values["seed"]) == (0, "")


def test_what_a_name_says_is_secret_is_not_passed_on() -> None:
    made = written()
    assert "hunter2" not in made.read("ro-crate-metadata.json").decode()


def test_the_table_and_the_results_are_whole() -> None:
    made = written()
    lines = list(csv.DictReader(io.StringIO(made.read("results.csv").decode())))
    assert [line["state"] for line in lines] == ["succeeded", "succeeded", "succeeded", "failed"]
    assert [one["batch_index"] for one in json.loads(made.read("results.json"))] == [0, 1, 2, 3]
    assert json.loads(made.read("inputs.json"))["grid"] == DOCUMENT["grid"]
    sums = {one["@id"]: one for one in entities(made).values() if one["@type"] == "File"}
    assert sums["results.csv"]["contentSize"] == str(len(made.read("results.csv")))


def test_the_same_batch_gives_the_same_bytes() -> None:
    first, second = io.BytesIO(), io.BytesIO()
    for out in (first, second):
        archive.write(out, record(), DOCUMENT, ["rate"], lambda: [ITEMS])
    assert first.getvalue() == second.getvalue()


def test_a_very_large_batch_is_one_action_per_software(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_ACTIONS", 3)
    other = [item(4, commit="e" * 40), item(5, commit=None, state="cancelled", started_at=None)]
    made = written([*ITEMS, *other], counts={"succeeded": 4, "failed": 1, "cancelled": 1})
    assert check(metadata(made), set(made.namelist())) == []
    actions = [one for one in entities(made).values() if one["@type"] == "CreateAction"]
    assert len(actions) == 2
    assert actions[0]["startTime"] == "2026-03-01T09:00:00.000+00:00"
    assert actions[0]["endTime"] == "2026-03-01T09:00:04.000+00:00"
    assert "{distance}" in actions[0]["description"]
    assert not any(name.startswith("jobs/") for name in made.namelist())


def test_the_checker_finds_what_is_wrong() -> None:
    made = written()
    document = metadata(made)
    files = set(made.namelist())
    graph = document["@graph"]
    action = next(one for one in graph if one["@type"] == "CreateAction")
    del action["instrument"]
    root = next(one for one in graph if one["@id"] == "./")
    del root["datePublished"]
    found = " ".join(check(document, files - {"results.csv"}))
    for part in ("no instrument", "datePublished is missing", "results.csv: is not in the crate"):
        assert part in found


def test_crate_constants_name_the_profile() -> None:
    assert crate.PROFILE.endswith("/process/0.5")
