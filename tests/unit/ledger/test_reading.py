"""What others wrote is read so that PostgreSQL can hold it."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qslice_gateway.ledger.reading import MAX_DEPTH, REPLACEMENT, Unreadable, clean, read_object

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


def test_nul_characters_become_a_replacement_character() -> None:
    read = read_object(rb'{"stdout": "a\u0000b", "n\u0000": ["\u0000"]}')
    assert read == {"stdout": f"a{REPLACEMENT}b", f"n{REPLACEMENT}": [REPLACEMENT]}


def test_lone_surrogates_are_replaced() -> None:
    read = read_object(rb'{"stdout": "x\ud800y"}')
    assert "\ud800" not in read["stdout"]
    read["stdout"].encode()


def test_numbers_that_json_does_not_know_are_read_as_null() -> None:
    assert read_object(b'{"a": NaN, "b": -Infinity, "c": 1.5}') == {"a": None, "b": None, "c": 1.5}


def test_an_integer_that_is_too_large_becomes_a_float() -> None:
    assert read_object(b'{"n": %d}' % 10**30)["n"] == 1e30


def test_what_is_nested_too_deeply_is_cut_there() -> None:
    body = b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}"
    value: Any = read_object(body)["a"]
    depth = 1
    while isinstance(value, list):
        value, depth = value[0], depth + 1
    assert depth == MAX_DEPTH
    assert "deep" in value


@pytest.mark.parametrize(
    "body", [b"", b"[1]", b'"text"', b"{", b'{"a": 1} x', b"\xff\xfe", b"[" * 100_000]
)
def test_what_is_no_object_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        read_object(body)


@given(JSON)
def test_a_clean_value_is_json_without_what_postgresql_refuses(value: Any) -> None:
    text = json.dumps(clean(value), ensure_ascii=False, allow_nan=False)
    assert "\x00" not in text
    assert "\\u0000" not in text
    text.encode()


@given(JSON)
def test_an_object_reads_as_its_clean_self(value: Any) -> None:
    read = read_object(json.dumps({"v": value}).encode())["v"]
    assert _same(read, clean(value))


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, float) or isinstance(right, float):
        return isinstance(left, int | float) and math.isclose(left, right, rel_tol=1e-9)
    return bool(left == right)
