"""What this process makes in a service outside of any namespace: tables, buckets, queues, streams with other names.

Two sources. botocore's events say what this process's clients made, and where: exact, and blind to clients that were
made before the ledger was installed, and to other processes. Listings say what is there: complete, and blind to who
made it; so what only they show counts only where nobody else uses the server.

What was there before a namespace was opened is nobody's leak, and nothing is told twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pratique.testkit.services.names import is_of_kit

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Foreign", "Ledger"]

_ASKED: Final = "pratique_asked"
_BOUND: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """Something new that is in no namespace."""

    name: str
    is_ours: bool
    """Whether a client of this process made it; else it only appeared meanwhile."""


@dataclass(kw_only=True)
class Ledger:
    """One per service and process."""

    operation: str
    """botocore's name of what creates: `dynamodb.CreateTable`."""
    parameter: str
    """The one that holds the name."""
    _made: list[tuple[str, str]] = field(default_factory=list)
    """Server and name, in the order of creation."""
    _known: dict[str, set[str]] = field(default_factory=dict)
    _is_installed: bool = False

    def install(self) -> None:
        """Hear of what every client that is made from now on creates, aiobotocore's included."""
        if self._is_installed:
            return
        self._is_installed = True
        import boto3
        from botocore import handlers

        heard = (
            ("before-parameter-build", self._keep_name),
            ("before-call", self._keep_server),
            ("after-call", self._note),
        )
        named = [(f"{event}.{self.operation}", handler) for event, handler in heard]
        handlers.BUILTIN_HANDLERS += named  # what every session begins with
        session = boto3.DEFAULT_SESSION
        if session is not None:  # begun before, so without them
            for event, handler in named:
                session.events.register(event, handler)

    def mark(self) -> int:
        """Return where a namespace that is opened now begins."""
        return len(self._made)

    def knows(self, url: str) -> bool:
        """Whether it was told what a server has."""
        return url in self._known

    def learn(self, url: str, names: Iterable[str]) -> None:
        """Take what a server has as nobody's fault."""
        self._known[url] = {name for name in names if not is_of_kit(name, "-")}

    def made_since(self, url: str, mark: int) -> set[str]:
        """Return the names outside of namespaces that this process made on a server after a mark."""
        server = urlsplit(url).netloc
        return {name for where, name in self._made[mark:] if where == server}

    def assess(self, url: str, mark: int, names: Iterable[str]) -> list[Foreign]:
        """Return what is new in no namespace, among the names that a server has now; learns them."""
        before = self._known.get(url, set())
        ours = self.made_since(url, mark)
        older = self.made_since(url, 0) - ours
        self.learn(url, names)
        new = self._known[url] - before - older
        return [Foreign(name=name, is_ours=name in ours) for name in sorted(new)]

    def _keep_name(self, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:  # noqa: ANN401 - botocore's
        context[_ASKED] = ("", params.get(self.parameter))

    def _keep_server(self, params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:  # noqa: ANN401 - as above
        context[_ASKED] = (urlsplit(params["url"]).netloc, context.get(_ASKED, ("", None))[1])

    def _note(self, http_response: Any, context: dict[str, Any], **_: Any) -> None:  # noqa: ANN401 - as above
        server, name = context.get(_ASKED, ("", None))
        refused = http_response.status_code >= 300  # noqa: PLR2004 - HTTP's success
        if not refused and isinstance(name, str) and not is_of_kit(name, "-") and len(self._made) < _BOUND:
            self._made.append((server, name))
