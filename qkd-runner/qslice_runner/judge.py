"""From a report to an outcome, or to a failure that tells a scientist what to do. Pure."""

import errno
import os
import signal

from qslice.faults import UserFault
from qslice.messages.result import MAX_RESULT
from qslice.worker.handler import Failed, Outcome

from qslice_runner.container import out_of_memory
from qslice_runner.engine import Image, RunTask
from qslice_runner.init.protocol import Flag, Kind, Report
from qslice_runner.output import Output, last_lines, read_result

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


def partial(image: Image, task: RunTask, output: Output, exit_code: int | None = None) -> Outcome:
    """What there is of a run that did not come to its end."""
    return Outcome(
        exit_code=exit_code,
        stdout=output.stdout,
        stderr=output.stderr,
        commit=task.commit,
        image=image.name,
        extra={"image_digest": image.id},
        truncated=output.truncated,
    )


def judge(
    report: Report, image: Image, task: RunTask, output: Output
) -> tuple[Outcome, str | None]:
    """The outcome, and a note for the log; raises `Failed`."""
    if report.kind is not Kind.ENDED:
        fault, code = _not_started(report.status, task)
        raise Failed(fault.code, fault.message, partial(image, task, output, code))
    result, note = read_result(report.result, output.stdout, output.stdout_truncated)
    if report.flags & Flag.RESULT_UNREADABLE:
        note = "/output/result.json is no plain file and was passed over"
    so_far = partial(image, task, output, report.status)
    outcome = Outcome(**{**vars(so_far), "result": result})
    if report.status != 0:
        fault = _ended_badly(report, task, output)
    elif report.flags & Flag.RESULT_TOO_LARGE:
        fault = UserFault(
            "limits_exceeded",
            f"/output/result.json is larger than the {MAX_RESULT // 1024} KiB that a result may "
            "have; write a summary there",
        )
    else:
        return outcome, note
    raise Failed(fault.code, fault.message, outcome)


def _not_started(why: int, task: RunTask) -> tuple[UserFault, int]:
    program = task.command[0]
    if why in (errno.ENOENT, errno.ENOTDIR):
        return _command(f"there is no program {program!r} in the image"), _NOT_FOUND
    if why in (errno.EACCES, errno.ENOEXEC, errno.EPERM):
        return (
            _command(
                f"{program!r} cannot be executed ({os.strerror(why)}): is it a program, readable "
                "and executable by a user who is not root?"
            ),
            _NOT_EXECUTABLE,
        )
    if why in (errno.EAGAIN, errno.ENOMEM, errno.E2BIG):
        return (
            UserFault("limits_exceeded", f"{program!r} cannot be started: {os.strerror(why)}"),
            _NOT_EXECUTABLE,
        )
    return _command(f"{program!r} cannot be started: {os.strerror(why)}"), _NOT_EXECUTABLE


def _command(message: str) -> UserFault:
    return UserFault("command_not_found", message)


def _ended_badly(report: Report, task: RunTask, output: Output) -> UserFault:
    if report.flags & Flag.OUT_OF_MEMORY:
        return out_of_memory(task.limits)
    end = last_lines(output.stdout, output.stderr)
    text = f"the command ended with exit code {report.status}{_signal(report.status)}"
    text += f"\n{end}" if end else ""
    if report.status in (_NOT_EXECUTABLE, _NOT_FOUND):
        return _command(text)
    return UserFault("exit_code", text)


def _signal(status: int) -> str:
    try:
        return f" ({signal.Signals(status - 128).name})" if status > 128 else ""
    except ValueError:
        return ""
