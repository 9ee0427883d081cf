"""Requests to the gateway: tried again where that is safe, and errors as `ApiError`."""

import ipaddress
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import orjson
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from qslice.sdk.errors import ApiError, Unreachable
from qslice.sdk.sse import ServerEvent, parse

log = logging.getLogger("qslice.sdk")

#: Answers that say "not now".
_BUSY = frozenset({429, 502, 503, 504})
#: Silence after which a live stream is taken for dead; the gateway sends comments more often.
_STREAM_SILENCE_S = 60.0
_RESUME_S = 0.5
#: Stands for the moment in which a stream begins.
_OPENED = ServerEvent("", "", None)


class _Again(Exception):
    """No answer, or one that may be different in a moment."""

    def __init__(self, error: Exception, after_s: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.after_s = after_s


class Api:
    """JSON over HTTP with a bearer token.

    Every request that this package sends may be repeated: what makes something carries a key of
    its own (`request_id`, a name), so an answer that was lost costs nothing.
    """

    def __init__(self, url: str, token: str | None, patience_s: float) -> None:
        headers = {"Accept": "application/json", "User-Agent": "qslice"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self.url = url.rstrip("/")
        self._patience_s = patience_s
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=httpx.Timeout(30.0, connect=5.0),
            # A proxy of the environment is no way to this machine itself.
            trust_env=not _is_loopback(httpx.URL(self.url).host),
        )

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        return self.send("GET", path, query=query)

    def post(self, path: str, body: Any = None) -> Any:
        return self.send("POST", path, body={} if body is None else body)

    def delete(self, path: str, **query: Any) -> Any:
        return self.send("DELETE", path, query=query)

    def send(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None
    ) -> Any:
        """The answer's JSON, None where it has no body.

        Raises `ApiError` where the gateway refuses, `Unreachable` where it does not answer.
        """
        response = self._tried(method, path, query, body)
        if not response.content:
            return None
        try:
            return orjson.loads(response.content)
        except orjson.JSONDecodeError:
            raise Unreachable(
                f"{self.url} answers {path} with something else than JSON; is it a qslice gateway?"
            ) from None

    def text(self, path: str, **query: Any) -> str:
        """An answer in plain text."""
        return self._tried("GET", path, query, None, accept="text/plain").text

    def csv(self, path: str, **query: Any) -> str:
        return self._tried("GET", path, query, None, accept="text/csv").text

    def file(self, path: str, **query: Any) -> bytes:
        """A file that is downloaded."""
        return self._tried("GET", path, query, None, accept="*/*").content

    def pages(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """The items of a listing, page by page."""
        cursor: str | None = None
        while True:
            page = self.get(path, **query, cursor=cursor)
            yield from page["items"]
            cursor = page.get("next")
            if not cursor:
                return

    def events(self, path: str, last_id: str | None = None, **query: Any) -> Iterator[ServerEvent]:
        """The events of a stream, taken up again after a cut where it was, until it ends.

        The server ends a stream with an event `end`.
        """
        failing_since: float | None = None
        while True:
            try:
                for event in self._stream(path, last_id, query):
                    failing_since = None
                    if event is _OPENED:
                        continue
                    last_id = event.id or last_id
                    if event.name == "end":
                        return
                    yield event
                # Long streams are ended to be taken up again.
                pause = _RESUME_S
            except _Again as again:
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > self._patience_s:
                    raise again.error from None
                log.info("the stream was cut (%s): taking it up again", again)
                pause = max(again.after_s, _RESUME_S)
            time.sleep(pause)

    def _stream(
        self, path: str, last_id: str | None, query: Mapping[str, Any]
    ) -> Iterator[ServerEvent]:
        headers = {"Accept": "text/event-stream"}
        if last_id is not None:
            headers["Last-Event-ID"] = last_id
        timeout = httpx.Timeout(_STREAM_SILENCE_S, connect=5.0)
        try:
            with self._http.stream(
                "GET", path, params=_given(query), headers=headers, timeout=timeout
            ) as response:
                if not response.is_success:
                    response.read()
                self._check(response)
                if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                    raise Unreachable(f"{self.url} gives no stream; is it a qslice gateway?")
                yield _OPENED
                yield from parse(response.iter_lines())
        except httpx.TransportError as error:
            raise _Again(self._unreachable(error)) from None

    def _tried(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        accept: str | None = None,
    ) -> httpx.Response:
        content = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": "application/json"} if content is not None else {}
        if accept is not None:
            headers["Accept"] = accept
        retrying = Retrying(
            retry=retry_if_exception_type(_Again),
            stop=stop_after_delay(self._patience_s),
            wait=_wait,
            reraise=True,
        )
        try:
            for attempt in retrying:
                with attempt:
                    return self._once(method, path, _given(query or {}), content, headers)
        except _Again as again:
            raise again.error from None
        raise AssertionError("unreachable")

    def _once(
        self,
        method: str,
        path: str,
        query: dict[str, Any],
        content: bytes | None,
        headers: dict[str, str],
    ) -> httpx.Response:
        try:
            response = self._http.request(
                method, path, params=query, content=content, headers=headers
            )
        except httpx.TransportError as error:
            raise _Again(self._unreachable(error)) from None
        return self._check(response)

    def _check(self, response: httpx.Response) -> httpx.Response:
        if response.is_success:
            return response
        try:
            document = orjson.loads(response.content)
        except orjson.JSONDecodeError:
            document = None
        error = ApiError.of(response.status_code, document, response.text)
        if response.status_code in _BUSY:
            raise _Again(error, _seconds(response.headers.get("Retry-After")))
        raise error

    def _unreachable(self, error: httpx.TransportError) -> Unreachable:
        return Unreachable(f"the gateway at {self.url} does not answer: {error}")


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    asked = error.after_s if isinstance(error, _Again) else 0.0
    return max(asked, wait_random_exponential(multiplier=0.2, max=5)(state))


def _given(query: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def _seconds(header: str | None) -> float:
    try:
        return min(max(float(header or 0), 0.0), 60.0)
    except ValueError:
        return 0.0


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
