"""The table [release.mirror]: the mirror of approved packages, and what may be approved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta

from pratique.core.settings import Settings

__all__ = ["MirrorSettings"]

_Seconds = Annotated[float, Meta(gt=0, le=86_400)]


class MirrorSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The mirror of approved packages (`[release.mirror]`)."""

    approved: Path = Path("approved-packages.toml")
    """The reviewed file that says what is served."""
    store: Path = Path("mirror")
    """The folder that holds the files, and what is known about them."""
    host: str = "127.0.0.1"
    """Where the index listens."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8083
    """0: any free port."""
    how_to_ask: str = "Propose it in approved-packages.toml by a pull request; pratique mirror check judges it."
    """What people are told who ask for something that is not approved."""
    upstream: str = "https://pypi.org/simple/"
    """The index that is copied from. It must answer in JSON (PEP 691). Plain HTTP only on this machine."""
    ca_file: Path | None = None
    """Certificates of authorities in PEM that are trusted instead of the system's."""
    connect_seconds: _Seconds = 10.0
    """Until a connection to the upstream stands."""
    read_seconds: _Seconds = 30.0
    """Without a byte from the upstream."""
    deadline_seconds: _Seconds = 60.0
    """For one page of the upstream."""
    transfer_seconds: _Seconds = 3600.0
    """For one file of the upstream."""
    max_file_bytes: Annotated[int, Meta(gt=0)] = 4 * 1024**3
    """Larger files are refused."""
    recheck_seconds: _Seconds = 3600.0
    """So often every stored file is hashed again while the mirror serves."""
    locks: tuple[Path, ...] = ()
    """Lock files whose names count as known: a new name that looks like one of them is refused."""
    licences: tuple[str, ...] = (
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "MIT",
        "MPL-2.0",
        "PSF-2.0",
        "Python-2.0",
        "Unlicense",
        "Zlib",
    )
    """SPDX identifiers that may be approved. Of a choice (OR) one must be among them, of a sum (AND) all."""
    min_age_days: Annotated[float, Meta(ge=0)] = 7.0
    """A release must be so old: most malicious ones are found and taken down within days."""
    min_project_age_days: Annotated[float, Meta(ge=0)] = 90.0
    """A project whose first file is younger is noted."""
