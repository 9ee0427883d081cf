"""The stand-in registry as a process, and what a test does to it behind the publisher's back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from qslice import ids
from qslice.messages.completion import Completion

from tests.support.processes import ProcessStarter, ServiceProcess
from tests.support.wait import wait_for

CLIENT_ID = "slices-mrs-backend-swagger"
OTHER_CLIENT_ID = "slices-mrs-spa"
AUDIENCE = "slices-mrs-backend"


@dataclass
class Mrs:
    """A running stand-in."""

    url: str
    secret: str = field(repr=False)
    process: ServiceProcess
    verify: str | bool = True

    def _call(self, method: str, path: str, **given: Any) -> Any:
        response = httpx.request(
            method, f"{self.url}{path}", timeout=60, trust_env=False, verify=self.verify, **given
        )
        response.raise_for_status()
        return response.json() if response.content else None

    def fail(self, kind: str, scope: str = "all", **more: Any) -> None:
        """Switch a fault on."""
        self._call("POST", "/testbed/faults", json={"kind": kind, "scope": scope, **more})

    def heal(self) -> None:
        self._call("DELETE", "/testbed/faults")

    def struck(self) -> int:
        """How many requests met a fault that is switched on."""
        return sum(fault["struck"] for fault in self._call("GET", "/testbed/faults"))

    def build(self, **switches: Any) -> None:
        """Make it another build of the server."""
        self._call("PUT", "/testbed/build", json=switches)

    def reset(self) -> None:
        """No faults, and the newest build."""
        self.heal()
        self.build(
            create_answers_object=False,
            generates_identifier=False,
            read_only_null=True,
            boolean_search=True,
            token_life_s=300,
        )

    def forget_tokens(self) -> None:
        self._call("POST", "/testbed/forget-tokens")

    def requests(self) -> dict[str, int]:
        return dict(self._call("GET", "/testbed/requests"))

    def objects(self, sought: str | None = None) -> list[dict[str, Any]]:
        """Whole objects, in the order of their making."""
        params = {"sought": sought} if sought else {}
        return list(self._call("GET", "/testbed/objects", params=params)["items"])

    def environment(self, broker_url: str, **more: str) -> dict[str, str]:
        """What a publisher needs to know; quick in its retries."""
        return {
            "QSLICE_AMQP_URL": broker_url,
            "QSLICE_MRS_URL": self.url,
            "QSLICE_MRS_CLIENT_ID": CLIENT_ID,
            "QSLICE_MRS_CLIENT_SECRET": self.secret,
            "QSLICE_MRS_AUDIENCE": AUDIENCE,
            "QSLICE_MRS_RETRY_DELAYS_S": "[0.2,0.5,1]",
            "QSLICE_MRS_SETTLE_S": "2",
            "QSLICE_MRS_TIMEOUT_S": "3",
            **more,
        }


@contextmanager
def shared_mrs(folder: Path) -> Iterator[Mrs]:
    """A stand-in for many tests, each with identifiers of its own."""
    starter = ProcessStarter(folder)
    try:
        yield start_mrs(starter, folder / "state")
    finally:
        starter.stop_all()


def start_mrs(
    start_process: ProcessStarter,
    state: Path,
    *options: str,
    env: Mapping[str, str] | None = None,
    listen: str = "127.0.0.1:0",
    verify: str | bool = True,
) -> Mrs:
    """Start a stand-in whose database and keys lie in `state`."""
    process = start_process(
        "qslice-mrs-testbed", "--listen", listen, "--state", str(state), *options, env=env
    )

    def address() -> str:
        assert process.is_running, process.read_log()
        first = process.read_log().partition("\n")[0]
        return first if first.startswith("http") else ""

    url = wait_for(address, 120, "the stand-in's address")
    secret = (state / "client-secret").read_text().strip()
    return Mrs(url, secret, process, verify)


def completion(**given: Any) -> Completion:
    """A completion of a virtual machine, but for what is given."""
    now = datetime.now(UTC)
    whole: dict[str, Any] = {
        "identifier": ids.new(ids.RESOURCE),
        "project": "lab",
        "what": "server",
        "event": "created",
        "name": "vm1",
        "created_at": now,
        "at": now,
        **given,
    }
    return Completion.of(whole)


def changed(made: Completion, **changes: Any) -> Completion:
    """The same thing later."""
    return Completion.of(made.model_dump() | changes)
