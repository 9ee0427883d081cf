"""What the engine itself would carry out is looked at before it sees a Dockerfile."""

from __future__ import annotations

import pytest
from qslice.faults import UserFault
from qslice_runner import dockerfile


@pytest.mark.parametrize(
    "text",
    [
        "# syntax=evil/frontend\nFROM debian",
        "\ufeff#   SyNtAx = docker/dockerfile:1\nFROM debian",
        "# escape=`\n\n#syntax=x\nFROM debian",
        "// syntax=x\nFROM debian",
        "FROM debian\nONBUILD ADD http://10.0.0.1/ /x",
        "FROM debian\nADD https://host/file /x",
        "FROM debian\nadd --chown=1:1 git://host/repo /x",
        'FROM debian\nADD ["http://169.254.169.254/latest", "/x"]',
        "FROM debian\nADD \\\n  # a comment does not end it\n  http://host/file /x",
        "FROM debian\nADD git@host:repo /x",
        "FROM debian\nARG where=http://host\nADD ${where}/file /x",
        "# escape=`\nFROM debian\nADD `\n http://host/file /x",
        "FROM qslice-run:0123456789abcdef",
        "FROM 0123456789ab",
        "FROM sha256:" + "0" * 64,
        "ARG base=0123456789ab\nFROM $base",
        "FROM debian\nCOPY --from=qslice-run:0123 /secret /",
        "FROM debian\nCOPY --from=registry.example/x/qslice-run:0123 /secret /",
        "FROM $unknown",
    ],
)
def test_what_the_engine_must_not_carry_out_is_refused(text: str) -> None:
    with pytest.raises(UserFault) as refused:
        dockerfile.check(text)
    assert refused.value.code == "dockerfile_forbidden"


def test_the_base_images_are_found_also_behind_arguments_and_stages() -> None:
    text = """
# a comment, with the word syntax=
ARG tag=bookworm-slim
ARG image=${registry:-registry.example}/tools:1
FROM --platform=linux/amd64 debian:${tag} AS base
FROM base
FROM ${image} as tools
FROM scratch
COPY --from=base /a /a
COPY --from=0 /b /b
COPY --from=busybox:1 /bin/busybox /
RUN echo "FROM nothing" && \\
    wget http://host/in/a/step
# syntax=after the first instruction is a comment
"""
    assert dockerfile.check(text) == [
        "debian:bookworm-slim",
        "registry.example/tools:1",
        "busybox:1",
    ]


def test_a_dockerfile_without_a_base_is_told_so() -> None:
    with pytest.raises(UserFault, match="no FROM") as refused:
        dockerfile.check("RUN true\n")
    assert refused.value.code == "build_failed"


def test_an_instruction_keeps_the_line_it_began_on() -> None:
    found = list(dockerfile.instructions("FROM a\n\nRUN x \\\n\n  # inner\n  y\nCOPY\ta b"))
    assert [(one.name, one.rest.split(), one.line) for one in found] == [
        ("FROM", ["a"], 1),
        ("RUN", ["x", "y"], 3),
        ("COPY", ["a", "b"], 7),
    ]
