"""The Debian mirror comes from the machine's own apt sources, in both of their formats."""

from __future__ import annotations

from pathlib import Path

import pytest
from qslice_native.mirror import (
    OVERRIDE,
    Source,
    debian_mirror,
    parse_deb822,
    parse_one_line,
    suite_sources,
)
from qslice_native.say import NativeError

KEYS = "/usr/share/keyrings/archive.gpg"


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(OVERRIDE, raising=False)
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_a_deb822_stanza_gives_every_uri_with_every_suite() -> None:
    text = f"""
# a comment
Types: deb deb-src
URIs: http://one.example/debian
 http://two.example/debian
Suites: bookworm bookworm-updates
# a comment inside
Components: main contrib
Signed-By: {KEYS}
"""
    found = list(parse_deb822(text))
    assert len(found) == 4
    assert found[0] == Source("http://one.example/debian", "bookworm", ("main", "contrib"), KEYS)
    assert {source.uri for source in found} == {
        "http://one.example/debian",
        "http://two.example/debian",
    }


@pytest.mark.parametrize(
    "stanza",
    [
        "Types: deb-src\nURIs: http://a.example/debian\nSuites: bookworm\nComponents: main\n",
        "Types: deb\nEnabled: no\nURIs: http://a.example/debian\nSuites: bookworm\n",
        "Types: deb\nSuites: bookworm\n",
        "",
    ],
)
def test_stanzas_of_sources_or_switched_off_give_nothing(stanza: str) -> None:
    assert list(parse_deb822(stanza)) == []


def test_a_key_inside_a_stanza_is_not_taken_for_a_path() -> None:
    stanza = "Types: deb\nURIs: http://a.example/debian\nSuites: sid\nComponents: main\n"
    inside = "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEYCQjIxYJ\n"
    assert [source.signed_by for source in parse_deb822(stanza + inside)] == [""]


def test_one_line_entries_are_read_with_options_and_comments() -> None:
    text = f"""
# deb http://off.example/debian bookworm main
deb [arch=amd64 signed-by={KEYS}] http://a.example/debian bookworm main non-free # why
deb-src http://a.example/debian bookworm main
  deb http://b.example/debian-security bookworm-security main
"""
    assert list(parse_one_line(text)) == [
        Source("http://a.example/debian", "bookworm", ("main", "non-free"), KEYS),
        Source("http://b.example/debian-security", "bookworm-security", ("main",)),
    ]


def test_the_mirror_is_that_of_the_suite_not_of_security_or_of_others(apt: Path) -> None:
    (apt / "sources.list").write_text(
        "deb http://vendor.example/tool stable main\n"
        "deb http://sec.example/debian-security bookworm-security main\n"
        "deb http://other.example/debian trixie main\n"
        "deb http://right.example/debian/ bookworm main\n"
    )
    assert debian_mirror("bookworm", apt) == "http://right.example/debian"


def test_the_mirror_of_another_suite_serves_where_the_suite_is_not_listed(apt: Path) -> None:
    (apt / "sources.list.d" / "debian.sources").write_text(
        "Types: deb\nURIs: http://a.example/debian\nSuites: trixie\nComponents: main\n"
    )
    assert debian_mirror("bookworm", apt) == "http://a.example/debian"


def test_the_environment_overrides_the_apt_sources(
    apt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (apt / "sources.list").write_text("deb http://a.example/debian bookworm main\n")
    monkeypatch.setenv(OVERRIDE, "http://mine.example/debian/")
    assert debian_mirror("bookworm", apt) == "http://mine.example/debian"


def test_without_any_debian_archive_the_message_says_what_to_set(apt: Path) -> None:
    with pytest.raises(NativeError, match=OVERRIDE):
        debian_mirror("bookworm", apt)


def test_sources_with_a_password_or_on_disk_do_not_go_into_images(apt: Path) -> None:
    (apt / "sources.list").write_text(
        "deb http://user:secret@a.example/debian bookworm main\n"
        "deb file:/srv/debian bookworm main\n"
        "deb http://b.example/debian bookworm main\n"
        "deb http://b.example/debian cloud-bookworm main\n"
    )
    assert [source.uri for source in suite_sources("bookworm", apt)] == ["http://b.example/debian"]
