"""The README's first submits, as they stand there, on the whole system."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from publish import publish

from tests.support.system import PROJECT, System

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [
        text for name, text in _BLOCK.findall((ROOT / "README.md").read_text()) if name == language
    ]


def run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_first_submits_of_the_readme_work_as_they_stand_there(
    system: System, tmp_path: Path
) -> None:
    git = tmp_path / "git"
    git.mkdir()
    publish(ROOT / "examples" / "bb84", git / "bb84.git")
    system.gateway()
    system.ledger()
    system.make_project()
    system.runner(git)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "QSLICE_URL": system.url,
        "QSLICE_TOKEN": system.tokens.make("alice", PROJECT),
        "QSLICE_PROJECT": PROJECT,
        "QSLICE_AMQP_URL": system.client().broker_user().amqp_url,
        "QSLICE_GIT_DIR": str(git),
        "NO_PROXY": "127.0.0.1",
    }
    by_command, by_rest = (text for text in blocks("sh") if "bb84" in text and "demo" not in text)
    assert "key_rate" in run(["bash", "-ec", by_command], environment)
    assert '"waiting"' in run(["bash", "-ec", by_rest], environment)
    [script] = blocks("python")
    lines = run([sys.executable, "-c", script], environment).splitlines()
    assert sorted(line.split()[:2] for line in lines) == [
        ["0", "succeeded"],
        ["100", "succeeded"],
        ["50", "succeeded"],
    ]
