"""From a report to an outcome or a failure with its code."""

from __future__ import annotations

import errno

import pytest
from qslice.messages.run import Limits
from qslice.worker.handler import Failed
from qslice_runner.engine import Image, RunTask
from qslice_runner.init.protocol import Flag, Kind, Report
from qslice_runner.judge import judge
from qslice_runner.output import Output

from tests.support.runs import RecordedJob

IMAGE = Image("qslice-run:1", "sha256:1")
TASK = RunTask(("bb84", "-d"), {}, Limits(memory_mb=64), 1.0, "c" * 40)


async def output(stdout: bytes = b"", stderr: bytes = b"") -> Output:
    kept = Output(RecordedJob(None))
    await kept.take("stdout", stdout)
    await kept.take("stderr", stderr)
    return kept


async def failed(report: Report) -> Failed:
    with pytest.raises(Failed) as failure:
        judge(report, IMAGE, TASK, await output(b"partly", b"Traceback\nwhy"))
    assert failure.value.outcome.stdout == "partly"
    assert failure.value.outcome.commit == TASK.commit
    return failure.value


async def test_exit_code_zero_is_success_with_the_files_result() -> None:
    report = Report(Kind.ENDED, Flag(0), 0, b'{"qber": 0.02}')
    outcome, note = judge(report, IMAGE, TASK, await output(b"text"))
    assert (outcome.exit_code, outcome.result, outcome.image) == (0, {"qber": 0.02}, IMAGE.name)
    assert note is None


@pytest.mark.parametrize(
    ("status", "flags", "code", "words"),
    [
        (3, Flag(0), "exit_code", "exit code 3\nTraceback\nwhy"),
        (139, Flag(0), "exit_code", "139 (SIGSEGV)"),
        (127, Flag(0), "command_not_found", "127"),
        (126, Flag(0), "command_not_found", "126"),
        (137, Flag.OUT_OF_MEMORY, "out_of_memory", "64 MB"),
        (1, Flag.OUT_OF_MEMORY, "out_of_memory", "limits.memory_mb"),
        (0, Flag.RESULT_TOO_LARGE, "limits_exceeded", "result.json"),
    ],
)
async def test_a_bad_end_has_a_code_and_tells_what_to_do(
    status: int, flags: Flag, code: str, words: str
) -> None:
    failure = await failed(Report(Kind.ENDED, flags, status, None))
    assert failure.code == code
    assert words in failure.message
    assert failure.outcome.exit_code == status


async def test_a_child_that_was_killed_for_memory_does_not_spoil_a_success() -> None:
    report = Report(Kind.ENDED, Flag.OUT_OF_MEMORY, 0, None)
    assert judge(report, IMAGE, TASK, await output())[0].exit_code == 0


@pytest.mark.parametrize(
    ("why", "code", "exit_code"),
    [
        (errno.ENOENT, "command_not_found", 127),
        (errno.EACCES, "command_not_found", 126),
        (errno.ENOEXEC, "command_not_found", 126),
        (errno.EAGAIN, "limits_exceeded", 126),
    ],
)
async def test_what_cannot_be_started_names_the_program(
    why: int, code: str, exit_code: int
) -> None:
    failure = await failed(Report(Kind.NOT_STARTED, Flag(0), why, None))
    assert failure.code == code
    assert "'bb84'" in failure.message
    assert failure.outcome.exit_code == exit_code
