"""Names of repositories and tags: what may stand in one, and where its registry answers.

Source: OCI distribution specification 1.1, "Pulling manifests". Pure.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from pratique.release.errors import DigestError
from pratique.release.registry.errors import RepositoryNameError
from pratique.release.values import Digest, parse_digest

__all__ = [
    "PATH",
    "TAG",
    "RepositoryName",
    "fallback_tag",
    "is_fallback_tag",
    "is_loopback",
    "parse_reference",
    "parse_repository",
]

PATH: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
TAG: Final = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
_MAX_CHARACTERS: Final = 255
_PATH: Final = re.compile(PATH, re.ASCII)
_TAG: Final = re.compile(TAG, re.ASCII)
_FALLBACK: Final = re.compile(r"sha256-[0-9a-f]{64}", re.ASCII)
_HOST: Final = re.compile(r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class RepositoryName:
    """A repository, in its two parts."""

    host: str
    """With the port, where one was named."""
    path: str

    @property
    def address(self) -> str:
        """The host and port that answer for it: Docker Hub's registry is not where its name says."""
        return "registry-1.docker.io" if self.host in {"docker.io", "index.docker.io"} else self.host

    def __str__(self) -> str:
        return f"{self.host}/{self.path}"


def parse_repository(text: str) -> RepositoryName:
    """Return the parts of `host/path`.

    Raises:
        RepositoryNameError: it is no such name. A tag or a digest behind it is refused too.
    """
    host, _, path = text.partition("/")
    is_host = _HOST.fullmatch(host) and ("." in host or ":" in host or host == "localhost")
    if len(text) > _MAX_CHARACTERS or not is_host or not _PATH.fullmatch(path):
        raise RepositoryNameError(
            f"expected a repository as host/path, got '{text[:_MAX_CHARACTERS]}'",
            hint="Name the registry and no tag, for example: registry.example.org/team/app",
        )
    return RepositoryName(host, path)


def parse_reference(text: str) -> str | Digest:
    """Return a tag or a digest as it came.

    Raises:
        RepositoryNameError: it is neither.
    """
    if ":" in text:
        try:
            return parse_digest(text)
        except DigestError as error:
            raise RepositoryNameError(f"expected a tag or a digest, got '{text[:200]}'") from error
    if not _TAG.fullmatch(text):
        raise RepositoryNameError(f"expected a tag or a digest, got '{text[:200]}'")
    return text


def fallback_tag(digest: Digest) -> str:
    """Return the tag under which referrers are listed where a registry does not list them itself."""
    return digest.replace(":", "-", 1)


def is_fallback_tag(tag: str) -> bool:
    """Whether a tag is one of those under which referrers are listed."""
    return _FALLBACK.fullmatch(tag) is not None


def is_loopback(address: str) -> bool:
    """Whether a `host` or `host:port` is this machine by its very name; no look-up is made."""
    host = address.rpartition(":")[0] if re.search(r":[0-9]+$", address) else address
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
