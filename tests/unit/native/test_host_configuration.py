"""What of the machine's configuration goes into images made here, and what must not."""

from __future__ import annotations

from configparser import ConfigParser

from qslice_native.host_configuration import apt_settings, deb822, pip_conf
from qslice_native.mirror import Source, parse_deb822


def _pip(listing: str, with_ca_bundle: bool = False) -> dict[str, str]:
    parser = ConfigParser(interpolation=None)
    parser.read_string(pip_conf(listing, with_ca_bundle))
    return dict(parser["global"])


def test_pip_takes_network_addresses_and_leaves_local_ones_and_passwords() -> None:
    listing = (
        "global.index-url='https://a.example/simple'\n"
        "global.extra-index-url='file:///opt/x https://u:secret@b.example/s https://c.example/s'\n"
        "global.find-links='/opt/wheels'\n"
        "global.trusted-host='a.example'\n"
        "global.target='/somewhere'\n"
    )
    values = _pip(listing)
    assert values["index-url"] == "https://a.example/simple"
    assert values["extra-index-url"] == "https://c.example/s"
    assert values["trusted-host"] == "a.example"
    assert "find-links" not in values
    assert "target" not in values
    assert "secret" not in pip_conf(listing, True)


def test_pip_environment_wins_over_its_files() -> None:
    listing = (
        ":env:.index-url='https://env.example/simple'\n"
        "global.index-url='https://file.example/simple'\n"
    )
    assert _pip(listing)["index-url"] == "https://env.example/simple"


def test_pip_uses_the_bundle_in_the_image_where_there_is_one() -> None:
    assert _pip("", with_ca_bundle=True)["cert"] == "/etc/ssl/certs/ca-certificates.crt"
    assert "cert" not in _pip("global.cert='/home/someone/ca.pem'\n")


def test_apt_keeps_how_archives_are_reached_and_nothing_else() -> None:
    dump = (
        'Acquire::http::Proxy "http://proxy.example:3128";\n'
        'Acquire::https::Proxy "http://user:secret@proxy.example:3128";\n'
        'Acquire::Check-Valid-Until "false";\n'
        'DPkg::Post-Invoke:: "rm -rf /something";\n'
    )
    assert apt_settings(dump) == (
        'Acquire::http::Proxy "http://proxy.example:3128";\nAcquire::Check-Valid-Until "false";\n'
    )


def test_written_sources_read_back_the_same_without_the_hosts_keys() -> None:
    sources = [
        Source("http://a.example/debian", "bookworm", ("main",), "/root/private.gpg"),
        Source("http://a.example/debian-security", "bookworm-security", ("main",)),
    ]
    back = list(parse_deb822(deb822([*sources, sources[0]])))
    assert [(source.uri, source.suite, source.components) for source in back] == [
        (source.uri, source.suite, source.components) for source in sources
    ]
    assert {source.signed_by for source in back} == {
        "/usr/share/keyrings/debian-archive-keyring.gpg"
    }
