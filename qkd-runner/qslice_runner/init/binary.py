"""The compiled first process: a file that the operator gives, or made with the host's compiler."""

import hashlib
import os
import subprocess
from importlib import resources
from pathlib import Path

from qslice.faults import SystemFault

#: Static: it runs in any image, also one without a C library.
_COMPILE = ("cc", "-static", "-Os", "-s", "-x", "c", "-")


def binary(given: Path | None, folder: Path) -> bytes:
    """The program. Compiled once per source, into `folder`; blocks for a second then.

    Raises `SystemFault` where there is neither a file nor a compiler.
    """
    if given is not None:
        try:
            return given.read_bytes()
        except OSError as error:
            raise SystemFault("internal", f"QSLICE_RUNNER_INIT: {error}") from None
    source = resources.files(__package__).joinpath("init.c").read_bytes()
    made = folder / f"init-{hashlib.sha256(source).hexdigest()[:16]}"
    if not made.is_file():
        # Each process its own file, then a rename: another runner may compile as well.
        scratch = folder / f"{made.name}.{os.getpid()}"
        _compile(source, scratch)
        scratch.replace(made)
    return made.read_bytes()


def _compile(source: bytes, to: Path) -> None:
    try:
        done = subprocess.run(
            [*_COMPILE, "-o", str(to)], input=source, capture_output=True, check=False
        )
    except FileNotFoundError:
        raise SystemFault(
            "internal",
            "no C compiler to make the first process of containers with: install gcc and libc6-dev "
            "(Debian), or set QSLICE_RUNNER_INIT to a compiled one",
        ) from None
    if done.returncode != 0:
        raise SystemFault("internal", f"cc failed: {done.stderr.decode(errors='replace')[-500:]}")
