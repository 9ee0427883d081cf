"""The build context: a commit's files as a tar, looked through before the engine sees it.

The tar comes from git, so it holds regular files, folders and symbolic links only. A link that
leads out of the tree is refused, as is a name that would.
"""

import posixpath
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from docker.utils.build import PatternMatcher
from qslice.faults import UserFault

from qslice_runner import dockerfile

#: Files and folders of one context.
MAX_ENTRIES = 200_000
_MAX_LINKS = 20
_IGNORE = ".dockerignore"


@dataclass
class Context:
    """A context that may be built."""

    #: The path of the Dockerfile inside of it, links followed.
    dockerfile: str
    #: The base images that the Dockerfile names.
    bases: list[str]
    #: What its author may want to know.
    notes: list[str] = field(default_factory=list)


def prepare(source: BinaryIO, to: BinaryIO, path: str) -> Context:
    """Copy what the build may see from one tar to another, and check it.

    Raises `UserFault`: `dockerfile_missing`, `dockerfile_forbidden`, `limits_exceeded`.
    """
    source.seek(0)
    with tarfile.open(fileobj=source, mode="r:") as archive:
        entries = _entries(archive)
        real = _find(path, entries)
        text = _text(archive, entries[real])
        context = Context(real, dockerfile.check(text))
        excluded = _excluded(archive, entries, real)
        with tarfile.open(fileobj=to, mode="w", format=tarfile.GNU_FORMAT) as out:
            for name, entry in entries.items():
                if excluded(name):
                    continue
                if entry.issym():
                    _check_link(name, entry.linkname)
                out.addfile(entry, archive.extractfile(entry) if entry.isreg() else None)
    if ".gitmodules" in entries:
        context.notes.append("submodules are not fetched: their folders are empty")
    to.seek(0)
    return context


def _entries(archive: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    entries: dict[str, tarfile.TarInfo] = {}
    for entry in archive:
        name = entry.name.rstrip("/")
        parts = name.split("/")
        if not name or name.startswith("/") or ".." in parts or "." in parts or "" in parts:
            raise dockerfile.forbidden(f"the repository holds the path {name[:200]!r}")
        if not (entry.isreg() or entry.isdir() or entry.issym()):
            raise dockerfile.forbidden(f"{name[:200]!r} is neither file, folder nor link")
        entries[name] = entry
        if len(entries) > MAX_ENTRIES:
            raise UserFault(
                "limits_exceeded", f"the repository has more than {MAX_ENTRIES} files and folders"
            )
    return entries


def _check_link(name: str, target: str) -> None:
    if leaves(name, target):
        raise dockerfile.forbidden(
            f"the link {name!r} leads out of the repository, to {target[:200]!r}; "
            "leave it out by a .dockerignore, or put a file there"
        )


def leaves(name: str, target: str) -> bool:
    """Whether a link in a tree leads out of it, by its text."""
    if target.startswith("/"):
        return True
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
    return joined == ".." or joined.startswith("../")


def _find(path: str, entries: dict[str, tarfile.TarInfo]) -> str:
    """The regular file that a path means, links followed inside of the tree."""
    rest = posixpath.normpath(path).split("/")
    done: list[str] = []
    for _ in range(_MAX_LINKS):
        while rest:
            name = "/".join([*done, rest[0]])
            entry = entries.get(name)
            if entry is None:
                raise UserFault(
                    "dockerfile_missing", f"the repository has no {path} at this commit"
                )
            if entry.issym():
                _check_link(name, entry.linkname)
                target = posixpath.normpath(posixpath.join("/".join(done), entry.linkname))
                rest, done = [*target.split("/"), *rest[1:]], []
                break
            done.append(rest.pop(0))
        else:
            found = "/".join(done)
            if not entries[found].isreg():
                raise UserFault("dockerfile_missing", f"{path} is a folder, not a Dockerfile")
            return found
    raise dockerfile.forbidden(f"{path} is a link that leads to itself")


def _text(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> str:
    if entry.size > dockerfile.MAX_BYTES:
        raise dockerfile.forbidden(
            f"the Dockerfile is larger than {dockerfile.MAX_BYTES // 1024} KiB"
        )
    file = archive.extractfile(entry)
    try:
        return file.read().decode() if file else ""
    except UnicodeDecodeError:
        raise dockerfile.forbidden("the Dockerfile is not UTF-8 text") from None


def _excluded(
    archive: tarfile.TarFile, entries: dict[str, tarfile.TarInfo], path: str
) -> Callable[[str], bool]:
    """Whether .dockerignore leaves a name out, as `docker build` reads it."""
    entry = entries.get(_IGNORE)
    if entry is None or not entry.isreg():
        return lambda _: False
    lines = [line.strip() for line in _text(archive, entry).removeprefix("\ufeff").splitlines()]
    patterns = [line.lstrip("/") for line in lines if line and not line.startswith("#")]
    matcher = PatternMatcher([*patterns, f"!{path}"])
    return lambda name: bool(matcher.matches(cast(Any, name)))
