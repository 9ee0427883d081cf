"""The script in MESSAGES.md, run as it stands there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from qslice.messages.run import Run

from tests.support import documents
from tests.support.system import System


def test_the_script_hands_in_its_runs_and_prints_each_result_once(
    system: System, tmp_path: Path
) -> None:
    [block] = documents.blocks("docs/MESSAGES.md", "python")
    # The worker of this test knows `print`, and no git repository.
    asked = '"python", "/app/bb84.py", "--distance"'
    assert asked in block.text
    (tmp_path / "script.py").write_text(block.text.replace(asked, '"print"'))
    system.ledger()
    system.noop_worker()
    with system.client("lab") as client:
        url = client.broker_user().amqp_url
        done = subprocess.run(
            [sys.executable, "-W", "error", str(tmp_path / "script.py")],
            env={**os.environ, "QSLICE_AMQP_URL": url, "QSLICE_PROJECT": "lab"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        expected = [f"{distance} succeeded None" for distance in (0, 10, 20)]
        assert sorted(done.stdout.splitlines()) == expected
        jobs = {job.id: client.job(job) for job in client.jobs()}
    assert set(jobs) == {"s1-0km", "s1-10km", "s1-20km"}
    assert jobs["s1-10km"].stdout == "10\n"
    payload = (jobs["s1-10km"].model_extra or {})["payload"]
    assert Run.of(payload).labels == {"distance": "10"}
