"""Where the gateway is and who asks: arguments, the environment, or a saved login, in this order.

The login is a file that only its owner can read, `~/.config/qslice/login.json`.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import orjson

from qslice.sdk.errors import Unconfigured

_FIELDS = ("url", "token", "project")


@dataclass(frozen=True)
class Login:
    """What a `Client` needs; a part that is not known is None."""

    url: str | None = None
    token: str | None = None
    project: str | None = None

    def __repr__(self) -> str:
        return f"Login(url={self.url!r}, project={self.project!r})"


def login_file() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "qslice" / "login.json"


def saved() -> Login:
    """The saved login, empty where there is none; raises `Unconfigured` where it is broken."""
    path = login_file()
    try:
        found = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return Login()
    except (OSError, orjson.JSONDecodeError) as wrong:
        raise Unconfigured(f"{path} cannot be read ({wrong}); log in again") from None
    if not isinstance(found, dict):
        raise Unconfigured(f"{path} holds no login; log in again")
    return Login(**{name: found.get(name) for name in _FIELDS})


def save(login: Login) -> Path:
    """Keep a login for later; readable by its owner only, at every moment."""
    path = login_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    document = {name: getattr(login, name) for name in _FIELDS if getattr(login, name)}
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(orjson.dumps(document))
    fresh.replace(path)
    return path


def forget() -> bool:
    """Remove the saved login; whether there was one."""
    path = login_file()
    if not path.exists():
        return False
    path.unlink()
    return True


def effective(
    url: str | None = None, token: str | None = None, project: str | None = None
) -> Login:
    """What is given, else `QSLICE_URL`, `QSLICE_TOKEN`, `QSLICE_PROJECT`, else the saved login.

    A saved token goes only to the gateway that it was saved for.
    """
    kept = saved()
    url = url or os.environ.get("QSLICE_URL") or kept.url
    token = token or os.environ.get("QSLICE_TOKEN")
    if token is None and url == kept.url:
        token = kept.token
    project = project or os.environ.get("QSLICE_PROJECT") or kept.project
    return Login(url.rstrip("/") if url else None, token, project)
