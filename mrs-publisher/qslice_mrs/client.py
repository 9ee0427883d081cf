"""The registry's API v0.2 over httpx, with what is known to differ between its builds."""

import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from qslice_mrs.errors import Refused, Unavailable
from qslice_mrs.settings import MrsSettings
from qslice_mrs.token import UNAUTHORIZED, TokenSource

#: Set by the server: not ours to write.
READ_ONLY = ("internalIdentifier", "systemCreationDate", "metadataProfile")
TYPE = "$type"
_PATH = "/v0.2/digital-objects"
_CONNECT_S = 5.0
_RETRIED = frozenset({408, 425, 429})
#: The request did not leave this host, or no connection was made.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True)
class Item:
    """One line of a search's answer."""

    internal_id: int
    identifier: str


@dataclass(frozen=True)
class Page:
    items: list[Item]
    total: int


def body_of(document: dict[str, Any], read_only_null: bool = False) -> bytes:
    """The bytes of a document: `$type` first, since the server's parser looks no further.

    `read_only_null`: with the server's own properties as null, which some builds require.
    """
    rest = {key: value for key, value in document.items() if key not in (TYPE, *READ_ONLY)}
    nulls = dict.fromkeys(READ_ONLY) if read_only_null else {}
    return orjson.dumps({TYPE: document[TYPE], **nulls, **rest})


class MrsClient:
    """Asynchronous; one connection pool for all that is under way. Close it at the end."""

    def __init__(self, settings: MrsSettings) -> None:
        context = ssl.create_default_context(
            cafile=str(settings.mrs_ca_file) if settings.mrs_ca_file else None
        )
        self._http = httpx.AsyncClient(
            base_url=settings.mrs_url,
            timeout=httpx.Timeout(settings.mrs_timeout_s, connect=_CONNECT_S, pool=None),
            limits=httpx.Limits(
                max_connections=settings.mrs_in_flight + 8,
                max_keepalive_connections=settings.mrs_in_flight + 8,
                keepalive_expiry=30,
            ),
            verify=context,
            trust_env=False,
            follow_redirects=False,
        )
        self._tokens = TokenSource(
            self._http,
            settings.token_url,
            settings.mrs_client_id,
            settings.mrs_client_secret,
            settings.mrs_audience,
        )
        #: Which form of the read-only properties this build takes; learned from its refusal.
        self._read_only_null = False

    async def close(self) -> None:
        await self._http.aclose()

    async def create(self, document: dict[str, Any]) -> int:
        """Register a new object; its internal id. The server knows no repetition."""
        response = await self._write("POST", _PATH, document)
        return _id_in(response)

    async def get(self, internal_id: int) -> dict[str, Any] | None:
        """The whole object, or None where there is none."""
        try:
            response = await self._send("GET", f"{_PATH}/{internal_id}")
        except Refused as refused:
            if refused.status == 404:
                return None
            raise
        return dict(_json(response))

    async def replace(self, internal_id: int, document: dict[str, Any]) -> None:
        """Put a complete object in the place of what is there."""
        await self._write("PUT", f"{_PATH}/{internal_id}", document)

    async def delete(self, internal_id: int) -> None:
        """Remove an object; none to remove is no error."""
        try:
            await self._send("DELETE", f"{_PATH}/{internal_id}")
        except Refused as refused:
            if refused.status != 404:
                raise

    async def search(self, query: str, page: int = 0, size: int = 100) -> Page:
        """One page of what a Lucene query finds, in all types."""
        path = (
            f"{_PATH}/search/global?paginate=True&pageIndex={page}&pageSize={size}"
            f"&advancedQuery={quote(query)}"
        )
        answer = _json(await self._send("GET", path))
        items = [
            Item(int(item["internalIdentifier"]), str(item.get("identifier") or ""))
            for item in answer.get("items", [])
        ]
        return Page(items, int(answer.get("total", len(items))))

    async def _write(self, method: str, path: str, document: dict[str, Any]) -> httpx.Response:
        form = self._read_only_null
        try:
            body = body_of(document, form)
            return await self._send(method, path, body)
        except Refused as refused:
            if refused.status != 400 or not any(name in refused.message for name in READ_ONLY):
                raise
            # A 400 stored nothing: the other form may be tried, and is remembered if it fits.
            # The other than was sent: another request may have learnt the form meanwhile.
            response = await self._send(method, path, body_of(document, not form))
            self._read_only_null = not form
            return response

    async def _send(self, method: str, path: str, body: bytes | None = None) -> httpx.Response:
        token = await self._tokens.get()
        response = await self._once(method, path, body, token)
        if response.status_code == 401:
            token = await self._tokens.get(refused=token)
            response = await self._once(method, path, body, token)
        return _checked(response, f"{method} {path.partition('?')[0]}", stores=body is not None)

    async def _once(self, method: str, path: str, body: bytes | None, token: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            return await self._http.request(method, path, content=body, headers=headers)
        except httpx.TransportError as wrong:
            raise Unavailable(
                "mrs_unavailable",
                f"the registry does not answer ({str(wrong) or type(wrong).__name__})",
                doubtful=body is not None and not isinstance(wrong, _NOT_SENT),
            ) from None


def _checked(response: httpx.Response, what: str, *, stores: bool) -> httpx.Response:
    status = response.status_code
    if response.is_success:
        return response
    if status in (401, 403):
        raise Unavailable(
            UNAUTHORIZED,
            f"the registry does not let us {what}",
            status,
            response.headers.get("WWW-Authenticate") or response.text,
        )
    if status in _RETRIED or status >= 500:
        raise Unavailable(
            "mrs_busy" if status == 429 else "mrs_unavailable",
            f"the registry could not {what}",
            status,
            response.text,
            doubtful=stores and status != 429,
            retry_after_s=_retry_after(response),
        )
    raise Refused("mrs_refused", f"the registry refused {what}", status, response.text)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds in a Retry-After header; a date in it is passed over."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


def _json(response: httpx.Response) -> Any:
    try:
        answer = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict):
        raise Unavailable(
            "mrs_unavailable", "the registry answered no JSON object", response.status_code
        )
    return answer


def _id_in(response: httpx.Response) -> int:
    """The id in a create's answer: a bare integer, or an object of an older build."""
    try:
        answer = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        answer = None
    if isinstance(answer, dict):
        answer = answer.get("internalIdentifier", answer.get("digitalObjectId", answer.get("id")))
    if isinstance(answer, str) and answer.isdigit():
        answer = int(answer)
    if not isinstance(answer, int) or isinstance(answer, bool):
        raise Unavailable(
            "mrs_unavailable",
            "the registry stored an object and did not say its id",
            response.status_code,
            response.text,
            doubtful=True,
        )
    return answer
