"""What commands print."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest
from qslice.cli import output


def test_a_table_cuts_nothing_off_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("job", "result"), [("j" * 90, {"rate": 0.5}), ("k", None)])
    first, second, third = capsys.readouterr().out.split("\n")[:3]
    assert first == f"JOB{' ' * 89}RESULT"
    assert second == f'{"j" * 90}  {{"rate":0.5}}'
    assert third == "k"


def test_what_a_task_wrote_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    wrote = "\x1b[2Jgone\x07 \x9b31m [red]x[/red] :smile:\r\nnext"
    output.table(("a",), [(wrote,)])
    output.pairs({"stdout": wrote})
    output.line(wrote)
    out = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\x9b", "\r"} & set(out)
    assert out.count("[red]x[/red] :smile:") == 3


def test_names_and_values_are_lined_up_and_the_unknown_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.pairs({"state": "failed", "exit code": 0, "worker": None, "stdout": "a\nb"})
    assert capsys.readouterr().out == (
        "state      failed\nexit code  0\nstdout     a\n           b\n"
    )


def test_json_is_one_line_with_times_in_utc(capsys: pytest.CaptureFixture[str]) -> None:
    output.json({"at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "text": "a\nb"})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert orjson.loads(out) == {"at": "2026-01-02T03:04:05Z", "text": "a\nb"}


@pytest.mark.parametrize(
    ("seconds", "shown"), [(5, "5s"), (90, "2m"), (7200, "2h"), (200_000, "2d"), (-3, "0s")]
)
def test_an_age_is_told_in_its_largest_unit(seconds: float, shown: str) -> None:
    assert output.age(datetime.now(UTC) - timedelta(seconds=seconds)) == shown
    assert output.age(None) == ""
