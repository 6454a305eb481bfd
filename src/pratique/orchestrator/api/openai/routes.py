"""Which requests are let through to the model servers. Pure.

A list of what is allowed, not of what is not: an engine has routes of its own below /v1 that load adapters, and later
versions will have others. What the engine keeps by an id (stored responses, files, batches) is left out, because it
does not know whose it is.
"""

from __future__ import annotations

from typing import Final

from pratique.core.errors import CallerError

__all__ = ["ROUTES", "WrongMethodError", "WrongPathError", "find_route"]

ROUTES: Final[dict[str, str]] = {
    "/v1/models": "GET",
    "/v1/chat/completions": "POST",
    "/v1/completions": "POST",
    "/v1/responses": "POST",
    "/v1/embeddings": "POST",
    "/v1/score": "POST",
    "/v1/rerank": "POST",
    "/v1/audio/transcriptions": "POST",
    "/v1/audio/translations": "POST",
}
"""Paths and their one method."""


class WrongPathError(CallerError):
    """There is nothing of that name for clients."""

    code = "not_found"


class WrongMethodError(CallerError):
    """The path is there, for another method."""

    code = "method_not_allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"This path takes {allowed} only.")
        self.allowed = allowed


def find_route(method: str, path: str, raw_path: bytes) -> str:
    """Return the path to ask for, exactly as listed.

    Args:
        method: of the request.
        path: decoded.
        raw_path: as it came; an encoded spelling of a listed path is none.

    Raises:
        WrongPathError, WrongMethodError.
    """
    allowed = ROUTES.get(path)
    if allowed is None or raw_path.decode("latin-1") != path:
        raise WrongPathError("There is no such path here.", hint=f"There are: {', '.join(ROUTES)}.")
    if method != allowed:
        raise WrongMethodError(allowed)
    return path
