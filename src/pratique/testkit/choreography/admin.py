"""A small client of WireMock's admin API: deadlines, and errors of the kit's own. Nothing is asked twice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pratique.testkit.errors import ServiceGoneError, UnexpectedAnswerError
from pratique.testkit.services import http
from pratique.testkit.services.choice import without_password
from pratique.testkit.services.wiremock import MEMORY_MB

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["WireMockAdmin"]

_SECONDS: Final = 10.0
_SHOWN: Final = 200
_FINE: Final = range(200, 300)
_LOG_BYTES: Final = 4096


class _Count(msgspec.Struct):
    count: int


class WireMockAdmin:
    """Talks to one WireMock. Each call has a connection of its own, so threads may share it."""

    def __init__(self, url: str, *, log: str = "", timeout_seconds: float = _SECONDS) -> None:
        self.url = url
        self._log = log
        self._timeout_seconds = timeout_seconds

    def version(self) -> str:
        """Return WireMock's version."""
        answer = self.ask("GET", "/__admin/health")
        try:
            return str(msgspec.json.decode(answer)["version"])
        except (msgspec.MsgspecError, KeyError, TypeError) as error:
            raise UnexpectedAnswerError(
                f"{without_password(self.url)} is no WireMock of version 3.5 or later; it says {answer[:_SHOWN]!r}."
            ) from error

    def add_stubs(self, stubs: Sequence[dict[str, Any]]) -> None:
        """Add stubs; of two that match the same, the last added wins."""
        options = {"duplicatePolicy": "OVERWRITE", "deleteAllNotInImport": False}
        self.ask("POST", "/__admin/mappings/import", {"mappings": list(stubs), "importOptions": options})

    def remove_stubs(self, expression: str, value: str) -> None:
        """Remove the stubs whose metadata has a value at a JSON path."""
        pattern = {"matchesJsonPath": {"expression": expression, "equalTo": value}}
        self.ask("POST", "/__admin/mappings/remove-by-metadata", pattern)

    def put_file(self, name: str, content: bytes) -> None:
        """Keep a body that stubs name by `bodyFileName`."""
        self.ask("PUT", f"/__admin/files/{name}", content)

    def remove_file(self, name: str) -> None:
        """Remove such a body."""
        self.ask("DELETE", f"/__admin/files/{name}")

    def journal(self) -> bytes:
        """Return the requests that came, the latest first, as JSON."""
        return self.ask("GET", "/__admin/requests")

    def count_requests(self, url_pattern: str) -> int:
        """Return how many of such requests are in the journal: cheaper than reading it."""
        answer = self.ask("POST", "/__admin/requests/count", {"urlPattern": url_pattern})
        try:
            return msgspec.json.decode(answer, type=_Count).count
        except msgspec.MsgspecError as error:
            raise UnexpectedAnswerError(f"WireMock's count of requests cannot be read: {answer[:_SHOWN]!r}.") from error

    def forget_requests(self, url_pattern: str) -> None:
        """Remove requests from the journal."""
        self.ask("POST", "/__admin/requests/remove", {"urlPattern": url_pattern})

    def ask(self, method: str, path: str, body: Any = None) -> bytes:  # noqa: ANN401 - any JSON value, or bytes as they are
        """Send a request, return the body of its answer.

        Raises:
            ServiceGoneError: nobody answers, or not in time.
            UnexpectedAnswerError: the answer is an error.
        """
        sent = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
        url, kind = self.url.rstrip("/") + path, {"Content-Type": "application/json"}
        try:
            with http.answering("WireMock", self.url):
                answer = http.ask(method, url, body=sent, headers=kind, seconds=self._timeout_seconds)
        except ServiceGoneError as error:
            if not _is_out_of_memory(self._log):
                raise
            raise ServiceGoneError(
                f"WireMock at {without_password(self.url)} ran out of its {MEMORY_MB} MB of memory, and ended.",
                hint="Its journal keeps the whole body of every request, of all tests at once. Send smaller bodies.",
            ) from error
        return answer.expect(*_FINE).body


def _is_out_of_memory(log: str) -> bool:
    """Whether the last that a server said is that; its JVM ends it then."""
    try:
        with Path(log).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOG_BYTES))
            return b"java.lang.OutOfMemoryError" in file.read()
    except OSError:  # none was kept: the server was given by its URL, or is a container
        return False
