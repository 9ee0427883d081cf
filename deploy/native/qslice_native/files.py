"""Files that survive a crash: whole or absent, never half written, and private by default."""

from __future__ import annotations

import json
import os
import pwd
import shutil
from pathlib import Path
from typing import Any

from qslice_native.say import NativeError


def write_private(path: Path, text: str, owner: str | None = None, mode: int = 0o600) -> None:
    """Replace `path` by a file with `text` in one step, readable by `owner` (default: us) alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(scratch, mode)
    if owner is not None:
        shutil.chown(scratch, owner, owner)
    scratch.replace(path)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replace `path` by the JSON of `value`, readable by us alone."""
    write_private(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`; empty where the file is absent or was damaged by a crash."""
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def private_directory(path: Path, owner: str | None = None, mode: int = 0o700) -> Path:
    """Make sure that `path` is a directory of `owner` with `mode`."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    if owner is not None:
        shutil.chown(path, owner, owner)
    return path


def own_tree(path: Path, owner: str) -> None:
    """Give everything under `path` to `owner`: a run as another user may have left files."""
    account = pwd.getpwnam(owner)
    for directory, _, names in os.walk(path):
        for entry in (directory, *(os.path.join(directory, name) for name in names)):
            status = os.lstat(entry)
            if (status.st_uid, status.st_gid) != (account.pw_uid, account.pw_gid):
                os.lchown(entry, account.pw_uid, account.pw_gid)


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message."""
    try:
        text = path.read_bytes()[-20_000:].decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def failure(part: str, what: str, log: Path) -> NativeError:
    """An error that names the log file and shows its end."""
    end = tail(log)
    shown = f"\n--- the end of {log} ---\n{end}" if end else ""
    return NativeError(f"{part} {what}. Its log: {log}{shown}")
