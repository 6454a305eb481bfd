"""The chat page: built files from a folder, read once at start. No templates, nothing from outside.

The page's own files carry a hash in their names and are cached for ever; index.html never is. The content policy allows
this origin only.
"""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from pratique.orchestrator.api.admission import session_of
from pratique.orchestrator.api.responses import refusal
from pratique.orchestrator.protocol.events import EventError

if TYPE_CHECKING:
    from starlette.requests import Request

    from pratique.orchestrator.api.runtime import Runtime

__all__ = ["CONTENT_POLICY", "PageRoutes"]

CONTENT_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_MAX_PAGE_BYTES = 32 * 2**20
_NOT_BUILT = (
    "<!doctype html><title>pratique</title><h1>The chat page has not been built</h1>"
    "<p>Build it with <code>npm --prefix web ci &amp;&amp; npm --prefix web run build</code> (or <code>make up</code>) "
    "and start this replica again. The API works: see <a href='/api/schema/openapi.json'>its schema</a>.</p>"
)


class PageRoutes:
    """Serves the files that were there at start."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        named = runtime.settings.page_dir
        self._files = _load(named or Path(__file__).resolve().parent.parent / "page")

    def routes(self) -> list[Route]:
        return [
            Route("/", self.index, methods=["GET", "HEAD"]),
            Route("/{name:path}", self.file, methods=["GET", "HEAD"]),
        ]

    async def index(self, request: Request) -> Response:
        """Show the page, with a session for whoever has none."""
        body = self._files.get("index.html")
        response = Response(
            _NOT_BUILT if body is None else body,
            status_code=503 if body is None else 200,
            media_type="text/html",
            headers={"cache-control": "no-cache", "content-security-policy": CONTENT_POLICY},
        )
        if self._runtime.settings.access.anonymous:
            grant = session_of(self._runtime, request.scope)
            if grant.set_cookie is not None:
                response.headers.append("set-cookie", grant.set_cookie)
        return response

    async def file(self, request: Request) -> Response:
        """Serve one of the page's files."""
        name = request.path_params["name"]
        body = self._files.get(name)
        if body is None and name.startswith("api/"):
            return refusal(EventError(code="not_found", message="There is no such path."))
        if body is None:
            return Response("There is no such page.", status_code=404, media_type="text/plain")
        is_hashed = name.startswith("assets/")
        return Response(
            body,
            media_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
            headers={
                "cache-control": "public, max-age=31536000, immutable" if is_hashed else "no-cache",
                "content-security-policy": CONTENT_POLICY,
            },
        )


def _load(folder: Path) -> dict[str, bytes]:
    """Read the built page. Too large is as good as not built: it is not what our build makes."""
    if not folder.is_dir():
        return {}
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    if sum(path.stat().st_size for path in paths) > _MAX_PAGE_BYTES:
        return {}
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
