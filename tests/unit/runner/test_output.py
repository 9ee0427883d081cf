"""The ends of streams, and the JSON in them."""

from __future__ import annotations

from typing import Any

import pytest
from qslice_runner.output import Tail, last_lines, read_result


def test_a_tail_keeps_the_last_characters_whatever_the_portions() -> None:
    tail = Tail(limit=5)
    shown = "".join(tail.feed(byte.to_bytes(1, "big")) for byte in "abcdéfgh".encode())
    assert shown == "abcdéfgh"
    assert (tail.text, tail.truncated) == ("défgh", True)


def test_a_tail_that_is_just_full_is_whole() -> None:
    tail = Tail(limit=4)
    tail.feed(b"ab")
    tail.feed(b"cd")
    assert (tail.text, tail.truncated) == ("abcd", False)


def test_what_is_no_text_is_replaced_and_half_a_character_ends_with_the_stream() -> None:
    tail = Tail()
    assert tail.feed(b"a\xffb\xc3") == "a\ufffdb"
    assert tail.feed(b"", final=True) == "\ufffd"


@pytest.mark.parametrize(
    ("file", "stdout", "result"),
    [
        (b'{"rate": 1.5}', "2", {"rate": 1.5}),
        (None, "some text\n92\n", 92),
        (None, '{"a": [1, 2]}', {"a": [1, 2]}),
        (None, "text\n", None),
        (None, "", None),
        (b'{"x": NaN, "y": -Infinity}', "", {"x": None, "y": None}),
        (b"{broken", "3", 3),
        (b"", "", None),
        (b"\xff", "", None),
    ],
)
def test_the_result_is_the_files_else_the_last_lines(
    file: bytes | None, stdout: str, result: Any
) -> None:
    found, note = read_result(file, stdout, truncated=False)
    assert found == result
    assert (note is not None) == (file in (b"{broken", b"", b"\xff"))


def test_the_end_of_a_cut_line_is_no_result() -> None:
    assert read_result(None, "345", truncated=True) == (None, None)
    assert read_result(None, "45\n6", truncated=True) == (6, None)


def test_json_that_is_nested_without_end_is_passed_over() -> None:
    found, note = read_result(b"[" * 100_000, "", truncated=False)
    assert found is None
    assert note is not None


def test_an_error_shows_the_last_whole_lines_of_the_last_stream_with_text() -> None:
    assert last_lines("out", " \n") == "out"
    assert last_lines("out", "err\n") == "err"
    assert last_lines("x" * 3000 + "\nlast line") == "last line"
    assert last_lines("") == ""
