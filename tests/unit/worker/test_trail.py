"""The events of one attempt: in order, log lines in batches, bounded."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qslice.messages.ledger import Event, EventType
from qslice.worker.handler import Stream
from qslice.worker.results import About
from qslice.worker.trail import BATCH, MAX_LOG, MAX_PIECES, Trail

ABOUT = About(job_id="job_x", project="alpha", kind="run", attempt=3, worker="w1")


def trail() -> Trail:
    return Trail(ABOUT, lambda: datetime(2026, 1, 1, tzinfo=UTC))


def logs(events: list[Event]) -> list[tuple[int | None, str | None, str | None]]:
    assert all(event.type is EventType.LOG for event in events)
    return [(event.seq, event.stream, event.text) for event in events]


def test_many_lines_become_one_event() -> None:
    told = trail()
    for n in range(1000):
        told.log("stdout", f"{n}\n")
    assert logs(told.take()) == [(1, "stdout", "".join(f"{n}\n" for n in range(1000)))]


def test_the_order_of_stdout_and_stderr_is_kept() -> None:
    told = trail()
    for stream, text in (("stdout", "a"), ("stderr", "b"), ("stderr", "c"), ("stdout", "d")):
        told.log(stream, text)  # type: ignore[arg-type]
    assert logs(told.take()) == [(1, "stdout", "a"), (2, "stderr", "bc"), (3, "stdout", "d")]


def test_streams_that_change_with_every_line_are_put_together() -> None:
    told = trail()
    for n in range(MAX_PIECES):
        told.log("stdout", f"o{n}\n")
        told.log("stderr", f"e{n}\n")
    events = told.take()
    assert [event.stream for event in events] == ["stdout", "stderr"]
    assert events[0].text == "".join(f"o{n}\n" for n in range(MAX_PIECES))


def test_another_event_stands_between_the_lines_before_and_after_it() -> None:
    told = trail()
    told.log("build", "step 1\n")
    told.add(EventType.STARTED, data={"image": "x"})
    told.log("stdout", "hello\n")
    assert [(event.type, event.text) for event in told.take()] == [
        (EventType.LOG, "step 1\n"),
        (EventType.STARTED, None),
        (EventType.LOG, "hello\n"),
    ]


def test_of_progress_that_was_not_sent_yet_the_last_counts() -> None:
    told = trail()
    for fraction in (0.1, 0.2, 0.3):
        told.add(EventType.PROGRESS, fraction=fraction, text="")
    told.log("stdout", "x")
    told.add(EventType.PROGRESS, fraction=0.4, text="")
    events = told.take()
    assert [event.fraction for event in events if event.type is EventType.PROGRESS] == [0.3, 0.4]


def test_numbers_go_on_over_several_batches() -> None:
    told = trail()
    told.log("stdout", "a")
    first = told.take()
    told.log("stdout", "b")
    assert [event.seq for event in (*first, *told.take())] == [1, 2]


def test_room_is_free_again_only_when_a_batch_was_sent() -> None:
    told = trail()
    told.log("stdout", "x" * 1000)
    told.add(EventType.PROGRESS, fraction=0.5, text="half")
    events = told.take()
    assert told.size > 1000
    told.sent(events)
    assert told.size == 0
    assert told.empty


def test_what_was_lost_while_the_broker_was_away_is_said() -> None:
    told = trail()
    told.log("stdout", "before\n")
    told.take()
    told.lose("x" * 500)
    told.lose("y" * 20)
    told.log("stdout", "after\n")
    (lost, after) = told.take()
    assert lost.stream == "system"
    assert "520 characters of output were lost" in (lost.text or "")
    assert after.text == "after\n"


def test_a_log_without_end_is_cut_and_says_so_once() -> None:
    told = trail()
    sent = 0
    last: list[Event] = []
    for _ in range(MAX_LOG // 100_000 + 5):
        told.log("stdout", "x" * 100_000)
        events = told.take()
        sent += sum(len(event.text or "") for event in events if event.stream == "stdout")
        told.sent(events)
        last = events or last
    assert sent == MAX_LOG
    assert "what follows is not kept" in (last[-1].text or "")
    assert told.empty


def test_data_that_is_no_json_is_refused_where_it_is_told() -> None:
    with pytest.raises(ValueError, match="object is no JSON value"):
        trail().add(EventType.RESOURCE, data={"server": object()})


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["stdout", "stderr"]),
            st.text(max_size=30) | st.integers(1, 3).map(lambda n: "y" * (BATCH * n - n)),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_no_character_of_a_stream_is_lost_or_moved(
    written: list[tuple[Stream, str, bool]],
) -> None:
    told = trail()
    events: list[Event] = []
    for stream, text, take in written:
        told.log(stream, text)
        if take:
            batch = told.take()
            told.sent(batch)
            events += batch
    batch = told.take()
    told.sent(batch)
    events += batch
    assert told.size == 0
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert all(0 < len(event.text or "") <= 2 * BATCH for event in events)
    for stream in ("stdout", "stderr"):
        text = "".join(event.text or "" for event in events if event.stream == stream)
        expected = "".join(text for one, text, _ in written if one == stream)
        assert text == expected.replace("\x00", "\ufffd")
