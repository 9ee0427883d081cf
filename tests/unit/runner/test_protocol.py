"""The report of a container's first process is found in the stream however it is cut."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qslice_runner.init.protocol import Flag, Kind, Reader, Report, encode

MARK = b"\0" + bytes(range(1, 16))


def report(result: bytes | None, status: int = 0, flags: int = 0, kind: int = 0) -> bytes:
    size = -1 if result is None else len(result)
    return MARK + struct.pack("<BBiq", kind, flags, status, size) + (result or b"")


@given(
    output=st.binary(max_size=60) | st.just(MARK[:7] + b"x" + MARK[:15]),
    result=st.none() | st.binary(max_size=40),
    cuts=st.lists(st.integers(0, 140), max_size=8),
)
def test_output_and_report_come_apart_wherever_the_stream_is_cut(
    output: bytes, result: bytes | None, cuts: list[int]
) -> None:
    stream = output + report(result, 3, 1)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    reader = Reader(MARK)
    shown = b"".join(reader.stdout(stream[start:end]) for start, end in pairwise(edges))
    assert shown == output
    assert reader.report is None, "standard error is not at its end yet"
    assert reader.stderr(b"err" + MARK) == b"err"
    assert reader.report == Report(Kind.ENDED, Flag.OUT_OF_MEMORY, 3, result)


def test_output_is_shown_at_once_unless_it_may_be_the_mark() -> None:
    reader = Reader(MARK)
    assert reader.stdout(b"line\n") == b"line\n"
    assert reader.stdout(b"a" + MARK[:4]) == b"a"
    assert reader.stdout(b"b") == MARK[:4] + b"b"


def test_half_a_report_is_none() -> None:
    reader = Reader(MARK)
    reader.stderr(MARK)
    whole = report(b"{}")
    reader.stdout(whole[:-1])
    assert reader.report is None
    reader.stdout(whole[-1:])
    assert reader.report is not None


def test_a_task_is_length_prefixed_strings() -> None:
    sent = encode(MARK, ["é", ""], {"A": "1=2"}, once=True, max_result=7)
    assert struct.unpack("<I", sent[:4])[0] == len(sent) - 4
    assert sent[4:20] == MARK
    assert sent[20:25] == struct.pack("<BI", 1, 7)
    texts = struct.pack("<II3sI1s", 2, 3, "é\0".encode(), 1, b"\0")
    assert sent[25:] == texts + struct.pack("<II6s", 1, 6, b"A=1=2\0")


def test_an_unknown_kind_of_report_is_an_error() -> None:
    with pytest.raises(ValueError, match="9"):
        Reader(MARK).stdout(report(None, kind=9))
