"""What a request asks for: its place, its condition, its headers. Pure.

Sources: OCI distribution specification 1.1, "Endpoints"; RFC 9110, 13.1 (conditions) and 7.6.1 (headers of one hop).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pratique.release.registry.front.answers import BASE_HEADERS, Refusal
from pratique.release.registry.names import PATH, TAG
from pratique.release.registry.rules import Condition
from pratique.release.values import Digest

__all__ = ["Kind", "Place", "local_location", "parse_condition", "parse_place", "passed_back", "passed_on"]

_MAX_PATH: Final = 1024
_DIGEST: Final = r"sha256:[0-9a-f]{64}"


class Kind(enum.Enum):
    """The endpoints."""

    BASE = "base"
    CATALOG = "catalog"
    TAGS = "tags"
    MANIFEST = "manifest"
    BLOB = "blob"
    UPLOADS = "uploads"
    UPLOAD = "upload"
    REFERRERS = "referrers"


_PLACES: Final = tuple(
    (kind, re.compile(pattern, re.ASCII))
    for kind, pattern in (
        (Kind.BASE, r"/v2/?"),
        (Kind.CATALOG, r"/v2/_catalog"),
        (Kind.TAGS, rf"/v2/({PATH})/tags/list"),
        (Kind.MANIFEST, rf"/v2/({PATH})/manifests/({TAG}|{_DIGEST})"),
        (Kind.UPLOADS, rf"/v2/({PATH})/blobs/uploads/?"),
        (Kind.UPLOAD, rf"/v2/({PATH})/blobs/uploads/([A-Za-z0-9._=-]{{1,255}})"),
        (Kind.BLOB, rf"/v2/({PATH})/blobs/({_DIGEST})"),
        (Kind.REFERRERS, rf"/v2/({PATH})/referrers/({_DIGEST})"),
    )
)
_METHODS: Final[dict[Kind, frozenset[str]]] = {
    Kind.BASE: frozenset({"GET", "HEAD"}),
    Kind.CATALOG: frozenset({"GET"}),
    Kind.TAGS: frozenset({"GET"}),
    Kind.MANIFEST: frozenset({"GET", "HEAD", "PUT", "DELETE"}),
    Kind.BLOB: frozenset({"GET", "HEAD", "DELETE"}),
    Kind.UPLOADS: frozenset({"POST"}),
    Kind.UPLOAD: frozenset({"GET", "PATCH", "PUT", "DELETE"}),
    Kind.REFERRERS: frozenset({"GET"}),
}
_PASSED_ON: Final = frozenset(
    {
        "accept",
        "authorization",
        "content-type",
        "content-length",
        "content-range",
        "range",
        "if-none-match",
        "user-agent",
    }
)
_PASSED_BACK: Final = frozenset(
    {
        "accept-ranges", "cache-control", "content-encoding", "content-length", "content-range", "content-type",
        "docker-content-digest", "docker-upload-uuid", "etag", "last-modified", "link", "location",
        "oci-chunk-min-length", "range", "retry-after", "warning", "www-authenticate",
    }
)  # fmt: skip
_ETAG: Final = re.compile(rf'"({_DIGEST})"', re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """What a request is about."""

    kind: Kind
    repository: str = ""
    reference: str = ""
    """A tag, a digest, or the name of an upload."""

    @property
    def is_tag(self) -> bool:
        return self.kind is Kind.MANIFEST and ":" not in self.reference


def parse_place(method: str, path: str) -> Place:
    """Return what a request is about.

    Raises:
        Refusal: there is no such place, or not for this method.
    """
    for kind, pattern in _PLACES:
        found = pattern.fullmatch(path) if len(path) <= _MAX_PATH else None
        if found is not None:
            if method not in _METHODS[kind]:
                allowed = ", ".join(sorted(_METHODS[kind]))
                raise Refusal(405, "UNSUPPORTED", f"this place takes {allowed}", headers={"Allow": allowed})
            return Place(kind, *found.groups()[:2])
    raise Refusal(404, "NAME_INVALID", "this is no place of a registry, or a digest that is not sha256")


def parse_condition(headers: Mapping[str, str]) -> Condition:
    """Return the condition of a write.

    Raises:
        Refusal: one that is not understood: it must not be ignored.
    """
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    only_if: Digest | None = None
    if match is not None:
        found = _ETAG.fullmatch(match.strip())
        if found is None:
            raise Refusal(400, "UNSUPPORTED", 'expected If-Match with one digest in quotes: "sha256:…"')
        only_if = Digest(found[1])
    if none_match is not None and none_match.strip() != "*":
        raise Refusal(400, "UNSUPPORTED", "expected If-None-Match: * on a write")
    return Condition(only_if, only_if_absent=none_match is not None)


def passed_on(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the headers of a request that the registry gets; repeated ones are joined, as some registries need."""
    found: dict[str, str] = {}
    given = list(headers)
    # RFC 9112, 6.3: beside a transfer encoding a length says nothing, and who believes it finds a second request.
    skipped = {"content-length"} if any(name.lower() == "transfer-encoding" for name, _ in given) else set()
    for name, value in given:
        if name.lower() in _PASSED_ON - skipped:
            found[name.lower()] = f"{found[name.lower()]}, {value}" if name.lower() in found else value
    return {**found, "accept-encoding": "identity"}


def passed_back(headers: Iterable[tuple[str, str]], upstream: str) -> list[tuple[str, str]]:
    """Return the headers of an answer that the client gets; addresses of the registry become the front's."""
    kept = [(name, value) for name, value in headers if name.lower() in _PASSED_BACK]
    return [*BASE_HEADERS.items(), *((name, _mended(name.lower(), value, upstream)) for name, value in kept)]


def _mended(name: str, value: str, upstream: str) -> str:
    if name == "link":
        return value.replace(f"<{upstream}/", "</")
    return local_location(value, upstream) if name == "location" else value


def local_location(location: str, upstream: str) -> str:
    """Return an address at the registry as one at the front; one elsewhere (a store of blobs) as it is."""
    parts = urlsplit(location)
    if f"{parts.scheme}://{parts.netloc}" != upstream:
        return location
    return parts.path + (f"?{parts.query}" if parts.query else "")
