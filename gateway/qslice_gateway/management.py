"""RabbitMQ's management API: one user per project, who may use that project's queues alone."""

import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx
import structlog
from qslice import names, topology

from qslice_gateway.problems import Problem

log = structlog.get_logger()

TIMEOUT_S = 15.0
#: RabbitMQ's tag of the users that are made here; a tag of ours grants nothing there.
LAB_TAG = "qslice-lab"


@dataclass(frozen=True)
class LabUser:
    """A project's own RabbitMQ user; its password is known here and now only."""

    username: str
    password: str
    vhost: str


class Management:
    """One virtual host of a broker, through its management API."""

    def __init__(self, url: str, vhost: str) -> None:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
        host = f"[{host}]" if ":" in host else host
        self._vhost = vhost
        self._user = unquote(parts.username or "")
        self._client = httpx.Client(
            base_url=f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}",
            auth=(self._user, unquote(parts.password or "")),
            timeout=TIMEOUT_S,
            trust_env=False,
        )

    def close(self) -> None:
        self._client.close()

    def username(self, project: str) -> str:
        """A project's user: the virtual host is part of it, since users are the broker's."""
        return f"{self._vhost.strip('/') or 'default'}.{project}"

    def renew_lab_user(self, project: str) -> LabUser:
        """Make the project's user, or give it a new password and end its connections.

        Raises `Problem` where the management API is away, or where a user of that name is not
        one that was made here.
        """
        user = self.username(project)
        path = f"/api/users/{_quoted(user)}"
        before = self._request("GET", path, missing_ok=True)
        if before is not None and LAB_TAG not in _tags(before.json()):
            raise Problem("forbidden", f"the broker has a user {user!r} that is not this project's")
        password = secrets.token_urlsafe(24)
        self._request("PUT", path, {"password": password, "tags": LAB_TAG})
        allowed = topology.lab_permissions(project)
        vhost = _quoted(self._vhost)
        self._request(
            "PUT",
            f"/api/permissions/{vhost}/{_quoted(user)}",
            {"configure": allowed.configure, "write": allowed.write, "read": allowed.read},
        )
        self._request(
            "PUT",
            f"/api/topic-permissions/{vhost}/{_quoted(user)}",
            {"exchange": names.EXCHANGE_TODO, "write": allowed.topic_write, "read": "^$"},
        )
        if before is not None:
            self._end_connections(user)
        return LabUser(user, password, self._vhost)

    def delete_lab_user(self, project: str) -> None:
        """Remove the project's user and end its connections; none is fine too."""
        user = self.username(project)
        path = f"/api/users/{_quoted(user)}"
        found = self._request("GET", path, missing_ok=True)
        if found is None or LAB_TAG not in _tags(found.json()):
            return
        self._request("DELETE", path, missing_ok=True)
        self._end_connections(user)

    def make_vhost(self) -> None:
        """The virtual host itself, with its permissions for who is asking here."""
        self._request("PUT", f"/api/vhosts/{_quoted(self._vhost)}")
        self._permit(self._user)

    def make_service_user(self, user: str, password: str) -> None:
        """A user of ours with every right in the virtual host; one that exists keeps its tags."""
        if user != self._user:
            path = f"/api/users/{_quoted(user)}"
            before = self._request("GET", path, missing_ok=True)
            tags = ",".join(_tags(before.json())) if before is not None else ""
            self._request("PUT", path, {"password": password, "tags": tags})
        self._permit(user)

    def _permit(self, user: str) -> None:
        self._request(
            "PUT",
            f"/api/permissions/{_quoted(self._vhost)}/{_quoted(user)}",
            {"configure": ".*", "write": ".*", "read": ".*"},
        )

    def _end_connections(self, user: str) -> None:
        """So that an old password, or a removed user, does not live on in an open connection."""
        self._request("DELETE", f"/api/connections/username/{_quoted(user)}", missing_ok=True)

    def _request(
        self, method: str, path: str, body: Any = None, *, missing_ok: bool = False
    ) -> httpx.Response | None:
        try:
            answer = self._client.request(method, path, json=body)
            if missing_ok and answer.status_code == httpx.codes.NOT_FOUND:
                return None
            answer.raise_for_status()
        except httpx.HTTPError as wrong:
            log.error("management_api", method=method, path=path, error=str(wrong))
            raise Problem(
                "broker_unavailable", "RabbitMQ's management API does not answer; try again later"
            ) from None
        return answer


def vhost_of(amqp_url: str) -> str:
    """The virtual host in an AMQP address; `/` where it names none."""
    return unquote(urlsplit(amqp_url).path[1:]) or "/"


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _tags(user: dict[str, Any]) -> list[str]:
    """A list since RabbitMQ 3.9, a text with commas before."""
    tags = user.get("tags", [])
    return tags.split(",") if isinstance(tags, str) else list(tags)
