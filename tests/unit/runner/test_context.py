"""The build context: what leaves the tree is refused, what .dockerignore names is left out."""

from __future__ import annotations

import io
import tarfile

import pytest
from qslice.faults import UserFault
from qslice_runner import context

DOCKERFILE = b"FROM debian:bookworm-slim\n"


def tree(files: dict[str, bytes | str | None]) -> io.BytesIO:
    """A tar as git makes it; a text is the target of a link, None a folder."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            if content is None:
                entry.type = tarfile.DIRTYPE
                archive.addfile(entry)
            elif isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                archive.addfile(entry)
            else:
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return packed


def prepared(
    files: dict[str, bytes | str | None], path: str = "Dockerfile"
) -> tuple[str, set[str]]:
    out = io.BytesIO()
    ready = context.prepare(tree(files), out, path)
    with tarfile.open(fileobj=out) as archive:
        return ready.dockerfile, set(archive.getnames())


def refused(files: dict[str, bytes | str | None], path: str = "Dockerfile") -> str:
    with pytest.raises(UserFault) as fault:
        prepared(files, path)
    return fault.value.code


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "a/../../outside", ".."])
def test_a_link_that_leaves_the_tree_is_refused(target: str) -> None:
    assert refused({"Dockerfile": DOCKERFILE, "link": target}) == "dockerfile_forbidden"
    assert refused({"Dockerfile": target}) == "dockerfile_forbidden"


@pytest.mark.parametrize("name", ["../x", "a/../x", "/x", "./x"])
def test_a_name_that_leaves_the_tree_is_refused(name: str) -> None:
    assert refused({"Dockerfile": DOCKERFILE, name: b""}) == "dockerfile_forbidden"


def test_a_device_is_refused() -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("null")
        entry.type = tarfile.CHRTYPE
        archive.addfile(entry)
    with pytest.raises(UserFault, match="neither file"):
        context.prepare(packed, io.BytesIO(), "Dockerfile")


def test_links_inside_of_the_tree_stay() -> None:
    files: dict[str, bytes | str | None] = {
        "docker": None,
        "docker/real": DOCKERFILE,
        "docker/here": "../docker/real",
        "way": "docker",
        "Dockerfile": "way/here",
    }
    assert prepared(files) == ("docker/real", set(files))


def test_a_dockerfile_that_is_not_there_is_missed() -> None:
    assert refused({"other": b""}) == "dockerfile_missing"
    assert refused({"Dockerfile": None}) == "dockerfile_missing"
    assert refused({"Dockerfile": "gone"}) == "dockerfile_missing"


def test_a_link_to_itself_ends() -> None:
    assert refused({"Dockerfile": "Dockerfile"}) == "dockerfile_forbidden"


def test_a_dockerfile_that_is_no_text_is_refused() -> None:
    assert refused({"Dockerfile": b"\xff\xfe"}) == "dockerfile_forbidden"


def test_what_dockerignore_names_is_left_out_but_never_the_dockerfile() -> None:
    files: dict[str, bytes | str | None] = {
        ".dockerignore": b"# big\n/data\n*.log\n!keep.log\nlink\nDockerfile\n",
        "Dockerfile": DOCKERFILE,
        "data/a/b": b"",
        "a.log": b"",
        "keep.log": b"",
        "code.py": b"",
        "link": "/out/of/the/tree",
    }
    assert prepared(files)[1] == {".dockerignore", "Dockerfile", "keep.log", "code.py"}


def test_submodules_are_mentioned() -> None:
    files = tree({"Dockerfile": DOCKERFILE, ".gitmodules": b""})
    assert "submodules" in context.prepare(files, io.BytesIO(), "Dockerfile").notes[0]
