import pytest
from qslice import repositories


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example/qkd/bb84.git",
        "https://git.example:8443/qkd/bb84",
        "http://git.example/qkd/bb84",
        "ssh://git@git.example/qkd/bb84.git",
        "git@git.example:qkd/bb84.git",
        "file:///srv/git/bb84.git",
        "https://user@git.example/a/b",
    ],
)
def test_an_ordinary_address_passes(url: str) -> None:
    assert repositories.check_url(url) == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "1 to"),
        ("--upload-pack=touch /tmp/x", "spaces"),
        ("--upload-pack=x", "start with '-'"),
        ("ext::sh", "transport helper"),
        ("fd::17/x", "transport helper"),
        ("git://git.example/a", "'git' is not allowed"),
        ("ftp://git.example/a", "'ftp' is not allowed"),
        ("/etc/passwd", "not allowed"),
        ("../x", "not allowed"),
        ("a" * 3000, "1 to"),
        ("https://git.example/a b", "spaces"),
        ("https://git.example/a\nb", "spaces"),
        ("https://git.example/a?x=1", "query"),
        ("https://git.example/a#x", "fragment"),
        ("https://me:secret@git.example/a", "password"),
        ("https:///a/b", "no host"),
        ("https://-x/a", "no host"),
        ("ssh://-oProxyCommand=x/a", "no host"),
        ("ssh://-oProxyCommand=x@h/a", "no host"),
        ("git@git.example:-x/a", "start with '-'"),
        ("https://git.example/../x", r"'\.\.'"),
        ("https://git.example/%2e%2e/x", r"'\.\.'"),
        ("https://git.example", "no repository"),
        ("file://host/srv/a", "three slashes"),
        ("https://git.example:99999/a", "no address"),
        ("https://[::1/a", "no address"),
    ],
)
def test_an_address_that_could_do_more_is_refused_with_the_reason(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        repositories.check_url(url)


def test_a_password_is_not_repeated_in_the_refusal() -> None:
    with pytest.raises(ValueError, match="password") as refused:
        repositories.check_url("https://me:hunter2@git.example/a")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("ref", ["main", "v1.2", "feature/x", "a" * 40, "refs/heads/main"])
def test_an_ordinary_ref_passes(ref: str) -> None:
    assert repositories.check_ref(ref) == ref


@pytest.mark.parametrize(
    "ref", ["", "-x", "--upload-pack=x", "a..b", "a b", "a\n", "a@{1}", "a.lock", "a:b", "a^", "~1"]
)
def test_a_ref_that_git_would_read_otherwise_is_refused(ref: str) -> None:
    with pytest.raises(ValueError, match="no branch, tag or commit"):
        repositories.check_ref(ref)


@pytest.mark.parametrize(
    ("url", "inside"),
    [
        ("file:///srv/git/a.git", True),
        ("file:///srv/git", False),
        ("file:///srv/gitx/a", False),
        ("https://srv/git/a", False),
    ],
)
def test_a_file_address_is_below_a_folder_or_not(url: str, inside: bool) -> None:
    assert repositories.below(url, "/srv/git") is inside


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("127.0.0.1", True),
        ("10.0.0.1", True),
        ("169.254.169.254", True),
        ("::1", True),
        ("fd00::1", True),
        ("100.64.0.1", True),
        ("0.0.0.0", True),
        ("93.184.216.34", False),
    ],
)
def test_private_addresses_are_known(address: str, private: bool) -> None:
    assert repositories.is_private(address) is private


def test_an_address_in_scp_form_has_parts_too() -> None:
    parts = repositories.split("git@git.example:qkd/a.git")
    assert (parts.scheme, parts.hostname, parts.username, parts.path) == (
        "ssh",
        "git.example",
        "git",
        "/qkd/a.git",
    )
