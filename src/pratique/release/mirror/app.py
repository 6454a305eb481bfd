"""The index over HTTP. Decides nothing: `deciding` says what is served, `pages` how it is written.

    /simple/                            the approved projects
    /simple/NAME/                       the files of one
    /files/SHA256/FILENAME              a file, and FILENAME.metadata its core metadata
    /healthz                            whether it can serve

What is not served is answered with 404 and a text that says why and how to ask; a file that was changed in the store
with 410; an approved file that cannot be read with 503. Sources: RFC 9110 (conditional requests, ranges).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from typing import BinaryIO, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from pratique.release.errors import UnavailableError
from pratique.release.mirror.approved import ApprovedFile
from pratique.release.mirror.deciding import Catalogue, Explanation, explain, served_files
from pratique.release.mirror.errors import ApprovedFileError, HashDiffersError
from pratique.release.mirror.names import is_name, normal
from pratique.release.mirror.pages import choose_form, project_page, projects_page
from pratique.release.mirror.shelf import Shelf
from pratique.release.values import Digest

__all__ = ["make_app"]

_CHUNK: Final = 256 * 1024
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_PARTIAL, _NOT_MODIFIED, _NOT_ACCEPTABLE, _NOT_FOUND, _GONE, _NO_RANGE, _NOT_NOW = 206, 304, 406, 404, 410, 416, 503


def make_app(shelf: Shelf) -> Starlette:
    """Return the application. Its handlers run in threads: they read files."""
    pages = _Pages(shelf)
    return Starlette(
        routes=[
            Route("/simple/", pages.projects),
            Route("/simple/{name}/", pages.project),
            Route("/simple/{name}", pages.slash),
            Route("/files/{digits}/{filename}", pages.file),
            Route("/healthz", pages.health),
        ],
        exception_handlers={ApprovedFileError: _unavailable, UnavailableError: _unavailable},
    )


def _unavailable(_: Request, error: Exception) -> Response:
    return PlainTextResponse(f"nothing can be served now: {error}\n", _NOT_NOW)


class _Pages:
    """The handlers."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def projects(self, request: Request) -> Response:
        catalogue = self._shelf.catalogue()
        names = [name for name in catalogue.approved.packages if served_files(catalogue, name)]
        form = choose_form(request.headers.get("accept", ""))
        return _page(request, projects_page(names, form), form) if form is not None else _not_acceptable()

    def slash(self, request: Request) -> Response:
        name = request.path_params["name"]
        if not is_name(name):  # "https:host" would lead to another one
            return _refusal(explain(self._shelf.catalogue(), name))
        return RedirectResponse(f"{normal(name)}/", 301)

    def project(self, request: Request) -> Response:
        name = request.path_params["name"]
        if is_name(name) and normal(name) != name:
            return RedirectResponse(f"../{normal(name)}/", 301)
        catalogue = self._shelf.catalogue()
        files = served_files(catalogue, name)
        if not files:
            return _refusal(explain(catalogue, name))
        form = choose_form(request.headers.get("accept", ""))
        return _page(request, project_page(name, files, form), form) if form is not None else _not_acceptable()

    def file(self, request: Request) -> Response:
        digest = Digest(f"sha256:{request.path_params['digits']}")
        filename = request.path_params["filename"].removesuffix(".metadata")
        is_metadata = filename != request.path_params["filename"]
        catalogue = self._shelf.catalogue()
        found = _find(catalogue, digest, filename)
        if found is None or digest not in catalogue.state.files:
            return PlainTextResponse(f"{filename} is not served. {catalogue.how_to_ask}\n", _NOT_FOUND)
        wanted = catalogue.state.files[digest].metadata if is_metadata else digest
        if wanted is None:
            return PlainTextResponse(f"{filename} has no metadata here\n", _NOT_FOUND)
        try:
            opened = self._shelf.open(wanted)
        except HashDiffersError:
            return _refusal(_tampered(found))
        return _send(request, opened, wanted)

    def health(self, _: Request) -> Response:
        catalogue = self._shelf.catalogue()
        return PlainTextResponse(f"{len(catalogue.approved.packages)} projects\n")


def _find(catalogue: Catalogue, digest: Digest, filename: str) -> ApprovedFile | None:
    found = (one for one in catalogue.approved.files() if one.digest == digest and one.filename == filename)
    return next(found, None)


def _tampered(file: ApprovedFile) -> Explanation:
    reason = f"{file.filename} in the store is not what was approved"
    return Explanation(
        name=file.package,
        version=file.version,
        is_served=False,
        code="tampered",
        reason=reason,
        mend="Tell the operator.",
    )


def _refusal(found: Explanation) -> Response:
    headers = {"X-Pratique-Reason": found.code, "Cache-Control": "no-store"}
    status = _GONE if found.code == "tampered" else _NOT_FOUND
    return PlainTextResponse(f"{found.reason}\n{found.mend}\n", status, headers)


def _not_acceptable() -> Response:
    return PlainTextResponse("offered are application/vnd.pypi.simple.v1+json, …+html and text/html\n", _NOT_ACCEPTABLE)


def _page(request: Request, body: bytes, form: str) -> Response:
    # Asked anew each time: what was taken back must not live on in a cache.
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Vary": "Accept", "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    if _matches(request.headers.get("if-none-match"), tag):
        return Response(status_code=_NOT_MODIFIED, headers=headers)
    charset = "; charset=utf-8" if form == "text/html" else ""
    return Response(body, headers={**headers, "Content-Type": f"{form}{charset}"})


def _matches(given: str | None, tag: str) -> bool:
    names = [one.strip().removeprefix("W/") for one in (given or "").split(",")]
    return "*" in names or tag in names


def _send(request: Request, opened: BinaryIO, digest: Digest) -> Response:
    """Answer with an open file, or a part of it; closes it."""
    size = os.fstat(opened.fileno()).st_size
    tag = f'"{digest.removeprefix("sha256:")}"'
    headers = {
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-cache",
        "Content-Type": "application/octet-stream",
        "X-Content-Type-Options": "nosniff",
    }
    if _matches(request.headers.get("if-none-match"), tag):
        opened.close()
        return Response(status_code=_NOT_MODIFIED, headers=headers)
    status, span = 200, range(size)
    if request.headers.get("if-range", tag) == tag and (asked := request.headers.get("range")) is not None:
        status, span = _span(asked, size)
    if status == _NO_RANGE:
        opened.close()
        return Response(status_code=status, headers={**headers, "Content-Range": f"bytes */{size}"})
    if status == _PARTIAL:
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size}"
    headers["Content-Length"] = str(len(span))
    if request.method == "HEAD":
        opened.close()
        return Response(status_code=status, headers=headers)
    return StreamingResponse(_pieces(opened, span), status, headers)


def _span(asked: str, size: int) -> tuple[int, range]:
    """Say which bytes a Range means (RFC 9110, 14.2). Several ranges, and other units, are answered with all of it."""
    found = _RANGE.fullmatch(asked.strip())
    if found is None or not (found[1] or found[2]):
        return 200, range(size)
    if not found[1]:
        first, last = max(0, size - int(found[2])), size - 1
    else:
        first, last = int(found[1]), min(size - 1, int(found[2])) if found[2] else size - 1
        if found[2] and int(found[2]) < first:
            return 200, range(size)
    return (_PARTIAL, range(first, last + 1)) if first <= last else (_NO_RANGE, range(0))


def _pieces(opened: BinaryIO, span: range) -> Iterator[bytes]:
    with contextlib.closing(opened):
        opened.seek(span.start)
        left = len(span)
        while left and (piece := opened.read(min(_CHUNK, left))):
            left -= len(piece)
            yield piece
