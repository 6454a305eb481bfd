"""An OpenSearch cluster as a retriever. Words are made by its own analyzer; see `opensearch_index`.

The question is the text of a `multi_match` query, never query language. How much of it a passage must hold is the
query's `minimum_should_match`, counted in words over both fields together (type `cross_fields`).
https://docs.opensearch.org/latest/query-dsl/full-text/multi-match/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from pratique.core.settings import SettingsError
from pratique.orchestrator.retrieval._extras import import_extra
from pratique.orchestrator.retrieval.interface import Passage, RetrievalUnavailableError
from pratique.orchestrator.retrieval.relevance import Candidate, Cutoffs, select

if TYPE_CHECKING:
    from pathlib import Path

    from opensearchpy import AsyncOpenSearch

__all__ = ["OpenSearchRetriever", "connect", "read_auth"]

_TITLE_BOOST: Final = 2


class _Body(msgspec.Struct, frozen=True):
    source_id: str
    title: str
    given: str
    url: str | None = None


class _Hit(msgspec.Struct, frozen=True):
    score: float = msgspec.field(name="_score")
    body: _Body = msgspec.field(name="_source")


class _Hits(msgspec.Struct, frozen=True):
    hits: tuple[_Hit, ...]


class _Answer(msgspec.Struct, frozen=True):
    hits: _Hits


class OpenSearchRetriever:
    """Searches one index or alias. The client is closed with it."""

    def __init__(self, client: AsyncOpenSearch, index: str, cutoffs: Cutoffs | None = None) -> None:
        self._client = client
        self._index = index
        self._cutoffs = cutoffs or Cutoffs()
        self._is_closed = False

    async def search(self, query: str, *, limit: int) -> tuple[Passage, ...]:
        answer = await self._ask(self._client.search, index=self._index, body=self._query(query, limit))
        try:
            hits = msgspec.convert(answer, _Answer).hits.hits
        except msgspec.ValidationError as error:
            raise RetrievalUnavailableError(f"OpenSearch's answer is not as agreed: {error}.") from error
        candidates = [Candidate(value=hit.body, score=hit.score) for hit in hits]
        return tuple(
            Passage(
                source_id=each.value.source_id,
                title=each.value.title,
                text=each.value.given,
                url=each.value.url,
                score=each.score,
            )
            for each in select(candidates, self._cutoffs, limit=limit)
        )

    async def check(self) -> None:
        if not await self._ask(self._client.indices.exists, index=self._index):
            raise RetrievalUnavailableError(
                f"OpenSearch has no index '{self._index}'.",
                hint="Build it: `pratique retrieval index SOURCE.jsonl --into URL`.",
            )

    async def aclose(self) -> None:
        self._is_closed = True
        await self._client.close()

    def _query(self, query: str, limit: int) -> dict[str, Any]:
        match = {
            "query": query,
            "fields": [f"title^{_TITLE_BOOST}", "text"],
            "type": "cross_fields",
            "minimum_should_match": f"{self._cutoffs.min_coverage:.0%}",
        }
        return {"size": limit, "query": {"multi_match": match}, "_source": ["source_id", "title", "given", "url"]}

    async def _ask(self, call: Any, **arguments: Any) -> Any:  # noqa: ANN401 - opensearch-py's own
        if self._is_closed:
            raise RetrievalUnavailableError("The index is closed.")
        errors = import_extra("opensearchpy.exceptions", extra="opensearch")
        try:
            return await call(**arguments)
        except errors.OpenSearchException as error:
            raise RetrievalUnavailableError(f"OpenSearch cannot be asked: {error}.") from error


def connect(
    url: str, *, auth: tuple[str, str] | None = None, ca_file: Path | None = None, timeout_seconds: float = 10.0
) -> AsyncOpenSearch:
    """Make a client; it connects when it is asked something. One attempt for each call: the caller has a deadline.

    Raises:
        SettingsError: the URL is none, or holds a password.
        ExtraMissingError: opensearch-py is not installed.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        # What stands before an @ may be a password, also where the rest is wrong.
        raise SettingsError(f"Expected http://host:port of OpenSearch; found '{url.rpartition('@')[2]}'.")
    if parts.password is not None:
        raise SettingsError("The address of OpenSearch holds a password.", hint="Use opensearch_auth_file.")
    package = import_extra("opensearchpy", extra="opensearch")
    client: AsyncOpenSearch = package.AsyncOpenSearch(
        hosts=[url],
        http_auth=auth,
        ca_certs=str(ca_file) if ca_file is not None else None,
        timeout=timeout_seconds,
        max_retries=0,
    )
    return client


def read_auth(path: Path | None) -> tuple[str, str] | None:
    """Read user and password.

    Raises:
        SettingsError: the file cannot be read, or is not of the form user:password.
    """
    if path is None:
        return None
    try:
        user, separator, password = path.read_text(encoding="utf-8").strip().partition(":")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The file of OpenSearch's password cannot be read: {error}.") from error
    if not (separator and user and password):
        raise SettingsError(f"Expected one line user:password in {path}.")
    return user, password
