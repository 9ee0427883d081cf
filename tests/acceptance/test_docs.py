"""The examples of USER.md, from the first to the last, on the whole system."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from docker import DockerClient

from tests.acceptance.conftest import RunnerLab
from tests.support import documents
from tests.support.platform import Platform

#: Sets up the person's shell: here the test does it.
SETTING = "sh setting"


@pytest.fixture
def outputs(
    running_lab: RunnerLab, platform: Platform, docker_client: DockerClient, tmp_path: Path
) -> dict[str, str]:
    """What the examples printed, by the heading that they stand under."""
    client = running_lab.project()
    running_lab.runner()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "QSLICE_URL": running_lab.system.url,
        "QSLICE_TOKEN": running_lab.system.tokens.make("alice", str(client.project)),
        "QSLICE_PROJECT": str(client.project),
        "QSLICE_AMQP_URL": client.broker_user().amqp_url,
        "QSLICE_GIT_DIR": str(running_lab.git),
        "DOCKER_HOST": platform.docker_host,
        "NO_PROXY": "127.0.0.1",
        "PYTHONWARNINGS": "error",
        # No prompt, and nobody's own settings.
        "GIT_CONFIG_GLOBAL": "/dev/null",
    }
    done = subprocess.run(
        ["bash", "-c", script(tmp_path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    docker_client.images.remove("fibre-on-trial", force=True)
    running_lab.stop_runners()
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    parts = re.split(r"^%% (.+)$\n", done.stdout, flags=re.MULTILINE)[1:]
    found: dict[str, str] = {}
    for heading, text in zip(parts[::2], parts[1::2], strict=True):
        found[heading] = found.get(heading, "") + text.removesuffix("\n")
    return found


def script(folder: Path) -> str:
    """All examples as one script, as a person would run them in one shell."""
    text = documents.read("docs/USER.md")
    lines = ["set -euo pipefail"]
    for block in documents.blocks("docs/USER.md"):
        before = text.split("\n")[: block.line]
        if block.kind == SETTING:
            continue
        heading = next(line[3:] for line in reversed(before) if line.startswith("## "))
        lines.append(f"echo; echo '%% {heading}'")
        if block.kind == "sh":
            lines.append(block.text)
        elif block.kind == "python":
            file = folder / f"line_{block.line}.py"
            file.write_text(block.text)
            lines.append(f"python {file}")
        else:
            raise AssertionError(f"line {block.line}: what is to be done with {block.kind!r}?")
    return "\n".join(lines)


def test_the_examples_of_the_users_guide_do_what_it_says(
    outputs: dict[str, str], tmp_path: Path
) -> None:
    by_command = outputs["On the command line"]
    assert "10 km of fibre" in by_command
    assert 'result      {"loss_db":2.0}' in by_command
    assert "6/6  6 succeeded" in by_command
    with (tmp_path / "fibre" / "fibre.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["distance"], row["result.loss_db"]) for row in rows] == [
        (str(distance), str(0.2 * distance)) for distance in range(0, 101, 20)
    ]

    by_rest = outputs["By REST"]
    assert '"state":"waiting"' in by_rest
    assert '"total":3' in by_rest
    assert '"code":"invalid"' in by_rest
    assert '"field":"walltime"' in by_rest
    assert '"message":{"laser":"warm"}' in by_rest

    from_python = outputs["From Python"].splitlines()
    assert from_python[0] == "{'loss_db': 1.0}"
    assert sorted(from_python[1:4]) == [
        "0 succeeded 0.0",
        "20 succeeded 4.0",
        "40 succeeded 8.0",
    ]
    assert from_python[4] == "invalid walltime_s"
    assert re.fullmatch("[0-9a-f]{40}", from_python[5])
    assert from_python[6] == "7 km of fibre"

    assert sorted(outputs["From a lab script"].splitlines()) == [
        "night-1/0 succeeded 0.0",
        "night-1/1 succeeded 10.0",
        "night-1/2 succeeded 20.0",
    ]
