"""Where an instance keeps its files.

The data of RabbitMQ and PostgreSQL lies under /var/lib/qslice, not in the checkout: both run as
users of their own, who cannot enter a checkout below /root. `.run/<name>/` holds what people and
other programs read: `state.json`, and links to the data and the logs.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from qslice_native.files import private_directory
from qslice_native.say import NativeError

DATA_ROOT = Path(os.environ.get("QSLICE_DATA_ROOT", "/var/lib/qslice"))
_NAME = re.compile(r"^[a-z][a-z0-9]{0,15}$")


def cache_directory() -> Path:
    """`${XDG_CACHE_HOME:-~/.cache}/qslice`, for downloads and builds."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "qslice"


@dataclass(frozen=True)
class Places:
    """The directories of one instance of one checkout."""

    checkout: Path
    name: str
    data_root: Path = DATA_ROOT

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise NativeError(
                f"instance name {self.name!r}: use up to 16 lower-case letters and digits"
            )

    @property
    def checkout_id(self) -> str:
        """The same for every run of this checkout; labels what it starts."""
        return hashlib.sha256(str(self.checkout.resolve()).encode()).hexdigest()[:10]

    @property
    def mark(self) -> str:
        """Marks the processes of this instance, in their environment."""
        return f"{self.checkout_id}/{self.name}"

    @property
    def run(self) -> Path:
        return self.checkout / ".run" / self.name

    @property
    def state_file(self) -> Path:
        return self.run / "state.json"

    @property
    def data(self) -> Path:
        return self.data_root / self.checkout_id / self.name

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def processes(self) -> Path:
        return self.data / "processes"

    @property
    def settings_file(self) -> Path:
        """Ports and passwords, picked once; kept beside the data that they belong to."""
        return self.data / "settings.json"

    @property
    def lock_file(self) -> Path:
        return self.data_root / self.checkout_id / f"{self.name}.lock"

    def prepare(self) -> None:
        """Make the directories; safe to repeat."""
        for passage in (self.data_root, self.data.parent, self.data):
            # Other users pass through these to their own directory, and list none of them.
            private_directory(passage, mode=0o711)
        private_directory(self.logs)
        private_directory(self.processes)
        private_directory(self.run)
        for link, target in ((self.run / "data", self.data), (self.run / "logs", self.logs)):
            if link.is_symlink() and link.readlink() != target:
                link.unlink()
            if not link.is_symlink():
                link.symlink_to(target)


def checkout_root() -> Path:
    """The checkout that this package was installed from (it is installed as editable)."""
    root = Path(__file__).resolve().parents[3]
    if not (root / "Makefile").is_file():
        raise NativeError(f"{root} is no checkout of qslice; install with `make install`")
    return root
