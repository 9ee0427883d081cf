from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qslice.messages.base import Rejected
from qslice.messages.ledger import REQUEST, Claim, Heartbeat
from qslice.messages.result import tail
from qslice.messages.run import MAX_BODY, Run, read_run

FULL: dict[str, Any] = {
    "id": "t-10km",
    "repository": "https://git.example/qkd/bb84.git",
    "ref": "main",
    "command": ["python", "/app/bb84.py", "--distance", "10"],
    "walltime_s": 600,
    "limits": {"cpus": 1, "memory_mb": 512, "pids": 128, "network": False},
    "env": {},
    "labels": {"sweep": "s1"},
    "priority": 0,
    "isolation": "task",
}
LEAST = {"repository": "https://git.example/a", "command": ["true"]}
TP = {
    "ID_projet": 1,
    "ID_tache": 2,
    "URL_git": "https://git.example/n.git",
    "CMD": "python3 q.py [0,-1]",
}


def test_the_message_of_the_contract_is_read() -> None:
    run, tp = read_run(orjson.dumps(FULL))
    assert run.command == FULL["command"]
    assert run.limits.memory_mb == 512
    assert tp is None


def test_only_repository_and_command_are_required() -> None:
    run, _ = read_run(orjson.dumps(LEAST))
    assert (run.ref, run.isolation, run.limits.network, run.id) == ("HEAD", "task", False, None)
    for field in LEAST:
        with pytest.raises(Rejected) as refused:
            read_run(orjson.dumps({key: value for key, value in LEAST.items() if key != field}))
        assert refused.value.field == field
        assert "required" in refused.value.reason


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"colour": 1}, "colour"),
        ({"command": "true"}, "command"),
        ({"command": []}, "command"),
        ({"command": [""]}, "command"),
        ({"command": [1]}, "command.0"),
        ({"command": ["a\x00"]}, "command"),
        ({"repository": "ext::sh"}, "repository"),
        ({"ref": "--x"}, "ref"),
        ({"dockerfile": "../Dockerfile"}, "dockerfile"),
        ({"dockerfile": "/etc/x"}, "dockerfile"),
        ({"walltime_s": 0}, "walltime_s"),
        ({"walltime_s": "soon"}, "walltime_s"),
        ({"limits": {"memory_mb": -1}}, "limits.memory_mb"),
        ({"limits": {"gpus": 1}}, "limits.gpus"),
        ({"env": {"1A": "x"}}, "env"),
        ({"env": {"A": "x\x00"}}, "env"),
        ({"labels": {"a b": "x"}}, "labels"),
        ({"labels": {"a": "x" * 201}}, "labels"),
        ({"priority": 10}, "priority"),
        ({"isolation": "none"}, "isolation"),
        ({"id": ""}, "id"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(Rejected) as refused:
        read_run(orjson.dumps(LEAST | change))
    assert refused.value.field == field
    assert refused.value.reason


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b"null", b"\xff", b'"x"'])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(Rejected, match="JSON"):
        read_run(body)


def test_a_huge_message_is_refused_with_its_size() -> None:
    with pytest.raises(Rejected, match=str(MAX_BODY)):
        read_run(b" " * (MAX_BODY + 1))


def test_all_wrong_fields_are_told_at_once() -> None:
    with pytest.raises(Rejected) as refused:
        read_run(orjson.dumps(LEAST | {"walltime_s": -1, "colour": 1}))
    assert "colour" in str(refused.value)
    assert "walltime_s" in str(refused.value)


def test_the_form_of_the_course_is_a_run_too() -> None:
    run, tp = read_run(orjson.dumps(TP))
    assert tp is not None
    assert (tp.ID_projet, tp.ID_tache) == (1, 2)
    assert run.command == ["python3", "q.py", "[0,-1]"]
    assert run.id == "1/2"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"URL_git": "ext::sh"}, "URL_git"),
        ({"CMD": ""}, ""),
        ({"CMD": "a 'b"}, ""),
        ({"CMD": 1}, "CMD"),
        ({"ID_projet": None}, "ID_projet.int"),
        ({"walltime_s": 1}, "walltime_s"),
    ],
)
def test_a_wrong_field_of_the_course_s_form_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(Rejected) as refused:
        read_run(orjson.dumps(TP | change))
    assert refused.value.field == field
    if not field:
        assert refused.value.reason.startswith("CMD: ")


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False)
        | st.text(),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*FULL, *TP, "x"]), inner)
        ),
        max_leaves=20,
    )
)
def test_whatever_comes_is_read_or_refused_and_never_crashes(value: Any) -> None:
    try:
        run, _ = read_run(orjson.dumps(value))
    except Rejected:
        return
    assert Run.read(run.body()) == run


def test_a_message_comes_back_from_its_own_text() -> None:
    run = Run.of(FULL)
    assert Run.read(run.body()) == run


def test_requests_to_the_ledger_are_told_apart_by_their_op() -> None:
    claim = Claim(project="p", kind="run", worker="w", lease_s=20)
    beat = Heartbeat(worker="w", kind="run", slots=2, lease_s=20)
    assert REQUEST.validate_json(claim.body()) == claim
    assert REQUEST.validate_json(beat.body()) == beat


def test_a_newer_version_of_our_own_notes_is_read() -> None:
    assert REQUEST.validate_json(b'{"op":"projects","colour":1}').op == "projects"


def test_long_output_keeps_its_end() -> None:
    assert tail("abc", 3) == ("abc", False)
    assert tail("abcd", 3) == ("bcd", True)
