"""Issuers whose keys are fetched from their address, or lie in a file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from qslice_gateway.auth.keys import MAX_DOCUMENT_BYTES, Keys
from qslice_gateway.auth.tokens import Tokens
from qslice_gateway.problems import Problem
from qslice_gateway.settings import Issuer

from tests.support.issuers import AUDIENCE, TestIssuer

Answer = tuple[int, dict[str, str], bytes]


class Authority:
    """A web server of an issuer; what it answers can be changed."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Callable[[], Answer] = lambda: (404, {}, b"")
        authority = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                authority.asked.append(self.path)
                status, headers, body = authority.answer()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                """Not into the tests' output."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def authority() -> Iterator[Authority]:
    found = Authority()
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


def tokens(issuer: TestIssuer, jwks: str) -> Tokens:
    configured = Issuer(issuer=issuer.name, audience=AUDIENCE, jwks=jwks)
    return Tokens([Keys(configured, floor_s=3600)])


def code(both: Tokens, token: str) -> str:
    with pytest.raises(Problem) as raised:
        both.identify(f"Bearer {token}")
    return raised.value.code


def test_keys_are_fetched_once_and_then_kept(authority: Authority) -> None:
    issuer = TestIssuer()
    authority.answer = lambda: (200, {"Content-Type": "application/json"}, issuer.document())
    both = tokens(issuer, f"{authority.url}/jwks")
    for number in range(3):
        assert both.identify(f"Bearer {issuer.token(sub=f'p{number}')}").subject == f"p{number}"
    forged = [TestIssuer(kid=f"invented{number}").token() for number in range(20)]
    assert {code(both, token) for token in forged} == {"unauthorized"}
    assert authority.asked == ["/jwks"]


def test_many_at_once_fetch_them_once(authority: Authority) -> None:
    issuer = TestIssuer()
    authority.answer = lambda: (200, {}, issuer.document())
    both = tokens(issuer, f"{authority.url}/jwks")
    found: list[str] = []
    gate = threading.Barrier(8)

    def identify(number: int) -> None:
        token = issuer.token(sub=f"p{number}")
        gate.wait()
        found.append(both.identify(f"Bearer {token}").subject)

    threads = [threading.Thread(target=identify, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert authority.asked == ["/jwks"]


def test_an_issuer_that_is_away_is_told_apart_from_a_bad_token(authority: Authority) -> None:
    issuer = TestIssuer()
    both = tokens(issuer, f"{authority.url}/jwks")
    assert code(both, issuer.token()) == "issuer_unavailable"


def test_a_redirect_is_not_followed(authority: Authority) -> None:
    issuer = TestIssuer()
    authority.answer = lambda: (
        (302, {"Location": f"{authority.url}/elsewhere"}, b"")
        if len(authority.asked) == 1
        else (200, {}, issuer.document())
    )
    assert code(tokens(issuer, f"{authority.url}/jwks"), issuer.token()) == "issuer_unavailable"
    assert authority.asked == ["/jwks"]


def test_a_document_without_an_end_is_given_up(authority: Authority) -> None:
    issuer = TestIssuer()
    authority.answer = lambda: (200, {}, b" " * (MAX_DOCUMENT_BYTES + 1) + issuer.document())
    assert code(tokens(issuer, f"{authority.url}/jwks"), issuer.token()) == "issuer_unavailable"


def test_keys_may_lie_in_a_file(tmp_path: Path) -> None:
    issuer = TestIssuer()
    file = tmp_path / "keys.json"
    assert code(tokens(issuer, str(file)), issuer.token()) == "issuer_unavailable"
    file.write_bytes(issuer.document())
    assert tokens(issuer, str(file)).identify(f"Bearer {issuer.token(sub='bob')}").subject == "bob"
