"""Server-sent events: their text form."""

from hypothesis import given
from hypothesis import strategies as st
from qslice.sdk.sse import ServerEvent, parse


def test_events_have_a_name_data_of_several_lines_and_the_last_id() -> None:
    text = "event: log\nid: 7\ndata: a\ndata:b\n\ndata:  c\n\n"
    assert list(parse(text.split("\n"))) == [
        ServerEvent("log", "a\nb", "7"),
        ServerEvent("message", " c", "7"),
    ]


def test_comments_and_unknown_fields_and_empty_events_are_passed_over() -> None:
    lines = [": keep-alive", "", "retry: 5", "event: x", "", "data: d", ""]
    assert [(event.name, event.data) for event in parse(lines)] == [("message", "d")]


def test_an_event_that_the_end_of_the_stream_cut_short_is_left_out() -> None:
    assert list(parse(["id: 1", "data: whole", "", "id: 2", "data: ha"])) == [
        ServerEvent("message", "whole", "1")
    ]


LINES = st.lists(st.text(st.characters(exclude_characters="\r\n\0")), min_size=1)


@given(st.lists(LINES, min_size=1))
def test_whatever_is_written_as_events_is_read_back(written: list[list[str]]) -> None:
    lines: list[str] = []
    for data in written:
        lines += [f"data: {line}" for line in data] + [""]
    assert [event.data.split("\n") for event in parse(lines)] == written
