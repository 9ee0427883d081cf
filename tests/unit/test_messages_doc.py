"""MESSAGES.md says what the models say."""

import ast
import re
from collections.abc import Iterator

import orjson
import pytest
from qslice import names, topology
from qslice.messages.base import Rejected
from qslice.messages.result import MAX_OUTPUT, MAX_RESULT, Result
from qslice.messages.run import MAX_BODY, Limits, Run, TpTask, read_run
from qslice.states import FINAL, State

from tests.support import documents
from tests.support.documents import ROOT, Block

DOCUMENT = "docs/MESSAGES.md"
JSON = [block for block in documents.blocks(DOCUMENT) if block.kind.startswith("json")]


def of(kind: str) -> list[Block]:
    found = documents.blocks(DOCUMENT, f"json {kind}")
    assert found
    return found


def first_cells(heading: str) -> list[str]:
    """The names in the first column of a table."""
    return [
        name
        for row in documents.table(DOCUMENT, heading)
        for name in re.findall(r"`(.+?)`", row[0])
    ]


@pytest.mark.parametrize("block", JSON, ids=lambda block: f"line {block.line}")
def test_every_json_block_is_json_of_a_known_kind(block: Block) -> None:
    orjson.loads(block.text)
    assert block.kind.removeprefix("json ") in {"run", "task", "result", "dead-headers"}


@pytest.mark.parametrize("block", of("run"), ids=lambda block: f"line {block.line}")
def test_runs_are_runs(block: Block) -> None:
    run, task = read_run(block.text.encode())
    assert task is None
    assert isinstance(run, Run)


def test_the_long_run_shows_every_field() -> None:
    longest = max((orjson.loads(block.text) for block in of("run")), key=len)
    assert longest.keys() == Run.model_fields.keys()
    assert longest["limits"].keys() == Limits.model_fields.keys()


def test_the_table_of_a_runs_fields_has_each_with_its_default() -> None:
    told = {row[0].strip("`"): row[1].strip("`") for row in documents.table(DOCUMENT, "A run")}
    expected = {}
    for name, field in Run.model_fields.items():
        if name != "limits":
            expected[name] = "required" if field.is_required() else _shown(field.default)
    for name, field in Limits.model_fields.items():
        expected[f"limits.{name}"] = _shown(field.default)
    assert told == expected


@pytest.mark.parametrize("block", of("task"), ids=lambda block: f"line {block.line}")
def test_tasks_are_tasks(block: Block) -> None:
    run, task = read_run(block.text.encode())
    assert task is not None
    assert orjson.loads(block.text).keys() == TpTask.model_fields.keys()
    assert f"here `{run.id}`" in documents.read(DOCUMENT)


@pytest.mark.parametrize("block", of("result"), ids=lambda block: f"line {block.line}")
def test_results_are_results_and_have_no_field_that_the_model_does_not(block: Block) -> None:
    value = orjson.loads(block.text)
    result = Result.of(value)
    assert value.keys() <= Result.model_fields.keys()
    assert result.state in FINAL
    assert (result.error is None) == (result.state is State.SUCCEEDED)


def test_every_field_of_a_result_is_explained_and_shown() -> None:
    assert sorted(first_cells("A result")) == sorted(Result.model_fields)
    shown = set().union(*(orjson.loads(block.text) for block in of("result")))
    assert shown == set(Result.model_fields)


def test_the_states_are_all_there_and_the_final_ones_last() -> None:
    states = first_cells("States")
    assert set(states) == set(State)
    assert set(states[-5:]) == FINAL
    assert "The last five are final" in documents.read(DOCUMENT)


def test_the_queues_and_permissions_are_those_of_the_broker() -> None:
    queues = [name.replace("<project>", "bb84") for name in first_cells("Queues and exchanges")]
    assert tuple(queues) == names.queues("bb84")
    may = topology.lab_permissions("bb84")
    told = " ".join(row[1] for row in documents.table(DOCUMENT, "The connection"))
    told = told.replace("<project>", "bb84")
    for pattern in (may.write, may.read, may.topic_write):
        assert f"`{pattern}`" in told
    assert may.configure == "^$"


def test_the_figures_are_the_codes() -> None:
    text = documents.read(DOCUMENT)
    assert f"{MAX_BODY // 1024} KiB at most" in text
    assert f"the last {MAX_OUTPUT} characters" in text
    assert f"at most {MAX_RESULT // 1024**2} MiB" in text
    assert f"for {topology.UNREAD_MS // 86_400_000} days" in text
    assert f"and {topology.MAX_UNREAD_BYTES // 1024**2} MiB of it" in text
    assert f"after {topology.DELIVERY_LIMIT} deliveries" in text


def test_the_headers_of_a_dead_letter_are_those_that_workers_write() -> None:
    [block] = of("dead-headers")
    shown = orjson.loads(block.text)
    assert set(shown) == {
        names.HEADER_REASON,
        names.HEADER_FIELD,
        names.HEADER_OWNER,
        names.HEADER_QUEUE,
    }
    assert f"`{names.HEADER_JOB}`" in documents.read(DOCUMENT)
    with pytest.raises(Rejected) as refused:
        Run.of({"repository": "https://h/r", "command": ["x"], "limits": {"memory": 1}})
    assert shown[names.HEADER_REASON] == str(refused.value)
    assert shown[names.HEADER_FIELD] == refused.value.field


def test_every_error_code_is_explained_with_its_owner() -> None:
    told = {(row[0].strip("`"), row[1]) for row in documents.table(DOCUMENT, "Error codes")}
    used = set(_codes())
    assert used, "no code was found: has the way of raising them changed?"
    assert used <= told


OWNERS = {"UserFault": "user", "Failed": "user", "TimedOut": "user", "SystemFault": "system"}


def _codes() -> Iterator[tuple[str, str]]:
    """The codes that the runner and the worker loop raise, with their owners."""
    for folder in ("qkd-runner/qslice_runner", "shared/qslice/worker"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id in OWNERS
                    and node.args
                    and isinstance(node.args[0], ast.Constant)
                ):
                    yield str(node.args[0].value), OWNERS[node.func.id]


def _shown(default: object) -> str:
    """A default as the table writes it."""
    if default is None:
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, int | float):
        return f"{default:g}"
    return "{}" if default == {} else str(default)
