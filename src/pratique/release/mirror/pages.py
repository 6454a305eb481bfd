"""The pages of the index, and which form of them a client wants. Pure.

Sources: the simple repository interface (PEP 503), its JSON form and negotiation (691), yanked files (592), metadata
(658, 714), versions, sizes and times (700). What is written into
HTML is escaped, reasons of others above all.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from datetime import UTC
from typing import Any, Final

import msgspec

from pratique.release.mirror.deciding import ServedFile
from pratique.release.mirror.index import JSON_TYPE

__all__ = ["HTML_TYPE", "PLAIN_HTML", "choose_form", "project_page", "projects_page"]

HTML_TYPE: Final = "application/vnd.pypi.simple.v1+html"
PLAIN_HTML: Final = "text/html"
_API_VERSION: Final = "1.1"
_OFFERED: Final = {
    JSON_TYPE: JSON_TYPE,
    "application/vnd.pypi.simple.latest+json": JSON_TYPE,
    HTML_TYPE: HTML_TYPE,
    "application/vnd.pypi.simple.latest+html": HTML_TYPE,
    PLAIN_HTML: PLAIN_HTML,
    "text/*": PLAIN_HTML,
    "*/*": PLAIN_HTML,
    "application/*": JSON_TYPE,
}


def choose_form(accept: str) -> str | None:
    """Return the media type to answer with; None: the client takes none that there is (RFC 9110, 12.5.1)."""
    best: tuple[float, int, str] | None = None
    for place, part in enumerate((accept or "*/*").split(",")):
        name, *parameters = (one.strip().lower() for one in part.split(";"))
        form, weight = _OFFERED.get(name), _weight(parameters)
        # Of equals the first one written, and wildcards after what is named.
        if form is not None and weight > 0:
            offer = (weight - (0.0005 if "*" in name else 0), -place, form)
            best = offer if best is None else max(best, offer)
    return best[2] if best is not None else None


def _weight(parameters: Iterable[str]) -> float:
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0


def projects_page(names: Iterable[str], form: str) -> bytes:
    """Return the list of projects."""
    names = sorted(names)
    if form == JSON_TYPE:
        projects = [{"name": name} for name in names]
        return msgspec.json.encode({"meta": {"api-version": _API_VERSION}, "projects": projects})
    links = [f'<a href="{html.escape(name)}/">{html.escape(name)}</a><br>' for name in names]
    return _html("Approved packages", links)


def project_page(name: str, files: Iterable[ServedFile], form: str) -> bytes:
    """Return the page of a project."""
    files = list(files)
    if form == JSON_TYPE:
        versions = list(dict.fromkeys(file.approved.version for file in files))
        page = {
            "meta": {"api-version": _API_VERSION},
            "name": name,
            "versions": versions,
            "files": [_fields(file) for file in files],
        }
        return msgspec.json.encode(page)
    return _html(f"Approved files of {name}", [_link(file) for file in files])


def _url(file: ServedFile) -> str:
    return f"../../files/{file.approved.digest.removeprefix('sha256:')}/{file.approved.filename}"


def _fields(file: ServedFile) -> dict[str, Any]:
    stored = file.stored
    fields: dict[str, Any] = {
        "filename": file.approved.filename,
        "url": _url(file),
        "hashes": {"sha256": file.approved.digest.removeprefix("sha256:")},
        "size": stored.size_bytes,
        # PEP 691: true where no reason is given; a reason is never empty.
        "yanked": False if file.yanked is None else file.yanked or True,
    }
    if stored.requires_python:
        fields["requires-python"] = stored.requires_python
    if stored.uploaded_at is not None:
        moment = stored.uploaded_at.astimezone(UTC)
        fields["upload-time"] = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if stored.metadata is not None:
        # PEP 714: the old key is read by clients that do not know the new one.
        metadata = {"sha256": stored.metadata.removeprefix("sha256:")}
        fields["core-metadata"] = fields["dist-info-metadata"] = metadata
    return fields


def _link(file: ServedFile) -> str:
    attributes = {"href": f"{_url(file)}#sha256={file.approved.digest.removeprefix('sha256:')}"}
    if file.stored.requires_python:
        attributes["data-requires-python"] = file.stored.requires_python
    if file.yanked is not None:
        attributes["data-yanked"] = file.yanked
    if file.stored.metadata is not None:
        attributes["data-core-metadata"] = file.stored.metadata.replace(":", "=")
        attributes["data-dist-info-metadata"] = attributes["data-core-metadata"]
    written = " ".join(f'{key}="{html.escape(value)}"' for key, value in attributes.items())
    return f"<a {written}>{html.escape(file.approved.filename)}</a><br>"


def _html(title: str, lines: Iterable[str]) -> bytes:
    head = f'<meta name="pypi:repository-version" content="{_API_VERSION}">\n<title>{html.escape(title)}</title>'
    return "\n".join(["<!DOCTYPE html>", f"<html><head>{head}</head><body>", *lines, "</body></html>", ""]).encode()
