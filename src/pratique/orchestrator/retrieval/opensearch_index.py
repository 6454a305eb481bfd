"""Fills an OpenSearch index: a new one beside the old, then the alias is moved in one step, then the old one goes.

With the plugin analysis-kuromoji Japanese is cut into words, as https://docs.opensearch.org/latest/analyzers/ has it;
without it into pairs of characters (`cjk_bigram`), which every server can do and which finds less exactly.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pratique.core.errors import EnvironmentFaultError
from pratique.orchestrator.retrieval import stopwords
from pratique.orchestrator.retrieval._extras import import_extra
from pratique.orchestrator.retrieval.passages import Cut, split_document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opensearchpy import AsyncOpenSearch

    from pratique.orchestrator.retrieval.documents import Source

__all__ = ["ANALYZERS", "FilledIndex", "fill_index"]

_CHUNK: Final = 500
_TOKENS: Final[dict[str, Any]] = {
    "kuromoji": {
        "tokenizer": "kuromoji_tokenizer",
        "filter": [
            "kuromoji_baseform",
            "kuromoji_part_of_speech",
            "cjk_width",
            "lowercase",
            "ja_stop",
            "pratique_stop",
            "kuromoji_stemmer",
            "pratique_english",
        ],
    },
    "cjk": {
        "tokenizer": "standard",
        "filter": ["cjk_width", "lowercase", "pratique_stop", "cjk_bigram", "pratique_english"],
    },
}
ANALYZERS: Final = ("auto", *_TOKENS)
"""auto: kuromoji where the cluster has its plugin, else cjk."""


class FilledIndex(msgspec.Struct, frozen=True, kw_only=True):
    """What was built."""

    index: str
    alias: str
    analyzer: str
    num_documents: int
    num_passages: int
    source_sha256: str


async def fill_index(
    client: AsyncOpenSearch, alias: str, source: Source, cut: Cut | None = None, *, analyzer: str = "auto"
) -> FilledIndex:
    """Build an index of the documents and make the alias mean it. The client stays open.

    Raises:
        EnvironmentFaultError: the cluster cannot be asked, or refuses. The alias then means what it did, unless only
            the answer to its move was lost.
    """
    errors = import_extra("opensearchpy.exceptions", extra="opensearch")
    index = f"{alias}-{source.digest[:12]}-{secrets.token_hex(4)}"
    try:
        chosen = analyzer if analyzer != "auto" else await _best_analyzer(client)
        await client.indices.create(index=index, body=_definition(chosen))
        try:
            num_passages = await _fill(client, index, source, cut or Cut())
            await client.indices.refresh(index=index)
        except BaseException:
            await client.indices.delete(index=index, params={"ignore_unavailable": "true"})
            raise
        # From here on the new index is never removed: where the answer is lost, it may be the only one there is.
        await _switch(client, alias, index)
    except errors.OpenSearchException as error:
        raise EnvironmentFaultError(f"OpenSearch did not take the index: {error}.") from error
    return FilledIndex(
        index=index,
        alias=alias,
        analyzer=chosen,
        num_documents=len(source.documents),
        num_passages=num_passages,
        source_sha256=source.digest,
    )


async def _best_analyzer(client: AsyncOpenSearch) -> str:
    plugins = await client.cat.plugins(format="json")
    names = {row.get("component") for row in plugins}
    return "kuromoji" if "analysis-kuromoji" in names else "cjk"


def _definition(analyzer: str) -> dict[str, Any]:
    analysis = {
        "filter": {
            "pratique_stop": {"type": "stop", "stopwords": sorted(stopwords.ENGLISH)},
            "pratique_english": {"type": "stemmer", "language": "english"},
        },
        "analyzer": {"pratique": {"type": "custom", **_TOKENS[analyzer]}},
    }
    text = {"type": "text", "analyzer": "pratique", "index_options": "freqs"}
    unsearched = {"type": "keyword", "index": False, "doc_values": False}
    return {
        "settings": {"analysis": analysis},
        "mappings": {
            "dynamic": "strict",
            "properties": {
                "title": text,
                "text": text,
                "given": unsearched,
                "source_id": {"type": "keyword"},
                "url": unsearched,
            },
        },
    }


async def _fill(client: AsyncOpenSearch, index: str, source: Source, cut: Cut) -> int:
    helpers = import_extra("opensearchpy.helpers", extra="opensearch")
    num_done, _ = await helpers.async_bulk(client, _actions(index, source, cut), chunk_size=_CHUNK, max_retries=0)
    return int(num_done)


def _actions(index: str, source: Source, cut: Cut) -> Iterator[dict[str, Any]]:
    number = 0
    for document in source.documents:
        for piece in split_document(document, cut):
            body = {
                "source_id": piece.source_id,
                "title": piece.title,
                "text": piece.searched,
                "given": piece.given,
                "url": piece.url,
            }
            yield {"_op_type": "index", "_index": index, "_id": str(number), "_source": body}
            number += 1


async def _switch(client: AsyncOpenSearch, alias: str, index: str) -> None:
    """Make the alias mean the new index and remove those that it meant, in one request."""
    old = await client.indices.get_alias(name=alias) if await client.indices.exists_alias(name=alias) else {}
    removed = [{"remove_index": {"index": name}} for name in old]
    await client.indices.update_aliases(body={"actions": [*removed, {"add": {"index": index, "alias": alias}}]})
