"""Reads what an index says about a project. Pure.

Sources: PEP 691 (JSON), 592 (yanked), 700 (times), 714 (metadata).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import urljoin

import msgspec

from pratique.release.decoding import MalformedError, decode_json, parse_instant
from pratique.release.errors import DigestError
from pratique.release.mirror.errors import UpstreamError
from pratique.release.mirror.interface import IndexFile, IndexProject
from pratique.release.mirror.names import normal
from pratique.release.values import Digest, parse_digest

__all__ = ["JSON_TYPE", "parse_project"]

JSON_TYPE: Final = "application/vnd.pypi.simple.v1+json"


class _Meta(msgspec.Struct, frozen=True, rename="kebab"):
    api_version: Annotated[str, msgspec.Meta(pattern=r"^1\.[0-9]+$")]


class _File(msgspec.Struct, frozen=True, rename="kebab"):
    filename: str
    url: str
    hashes: dict[str, str]
    requires_python: str | None = None
    core_metadata: bool | dict[str, str] = False
    yanked: bool | str = False
    upload_time: str | None = None
    provenance: Any = None


class _Project(msgspec.Struct, frozen=True):
    meta: _Meta
    name: str
    files: tuple[_File, ...]


def parse_project(body: bytes, url: str, name: str) -> IndexProject:
    """Read the page of a project; addresses are made whole by the page's own.

    Raises:
        UpstreamError: it is none, of another version of the interface, or about another project.
    """
    try:
        found = decode_json(body, _Project)
    except MalformedError as error:
        raise UpstreamError(f"{url}: expected a page of a project in JSON (PEP 691): {error}") from error
    if normal(found.name) != name:
        raise UpstreamError(f"{url}: expected the project {name}, got '{found.name[:100]}'")
    try:
        return IndexProject(name=name, files=tuple(_file(one, url) for one in found.files))
    except ValueError as error:
        raise UpstreamError(f"{url}: the page has a file at what is no address: {error}") from error


def _file(one: _File, url: str) -> IndexFile:
    metadata = one.core_metadata if isinstance(one.core_metadata, dict) else {}
    return IndexFile(
        filename=one.filename,
        url=urljoin(url, one.url),
        digest=_digest(one.hashes),
        uploaded_at=_time(one.upload_time),
        yanked=_yanked(one.yanked),
        requires_python=one.requires_python or "",
        metadata=_digest(metadata),
        has_provenance=bool(one.provenance),
    )


def _yanked(value: bool | str) -> str | None:
    if value is True:
        return ""
    return value or None if isinstance(value, str) else None


def _digest(hashes: dict[str, str]) -> Digest | None:
    try:
        return parse_digest(f"sha256:{hashes.get('sha256', '').lower()}")
    except DigestError:
        return None


def _time(text: str | None) -> datetime | None:
    try:
        return parse_instant(text) if text is not None else None
    except MalformedError:  # an age that is unknown is told by whoever asks for it
        return None
