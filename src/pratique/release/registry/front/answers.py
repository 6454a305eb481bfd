"""What the front says itself: refusals in the form of the OCI distribution specification 1.1, "Error Codes". Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.responses import Response

from pratique.core.errors import PratiqueError
from pratique.release.registry.errors import ListShrinksError, ManifestError
from pratique.release.registry.rules import FRONT_HEADER, PreconditionError, TagMovedError

__all__ = ["BASE_HEADERS", "Refusal", "refusal_of"]

BASE_HEADERS: Final[Mapping[str, str]] = {
    "Docker-Distribution-Api-Version": "registry/2.0",
    FRONT_HEADER: "1",
    "X-Content-Type-Options": "nosniff",
}


class Refusal(Exception):  # noqa: N818 - it is an answer, not a fault
    """An answer that the front gives instead of the registry."""

    def __init__(self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """Return it as it goes over the wire."""
        body = msgspec.json.encode({"errors": [{"code": self.code, "message": self.message}]})
        return Response(
            body, self.status, headers={**BASE_HEADERS, **self.headers}, media_type="application/json; charset=utf-8"
        )


_STATUSES: Final[dict[type[PratiqueError], tuple[int, str]]] = {
    TagMovedError: (409, "DENIED"),
    PreconditionError: (412, "DENIED"),
    ListShrinksError: (409, "DENIED"),
    ManifestError: (400, "MANIFEST_INVALID"),
}


def refusal_of(error: TagMovedError | PreconditionError | ListShrinksError | ManifestError) -> Refusal:
    """Return how the front says what our own errors say."""
    status, code = _STATUSES[type(error)]
    return Refusal(status, code, str(error))
