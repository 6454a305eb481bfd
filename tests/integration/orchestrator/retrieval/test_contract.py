"""What every retriever does, over all of them.

    pytest tests/integration/orchestrator/retrieval --pratique-opensearch=http://127.0.0.1:9200

runs it against a real OpenSearch too; elsewhere against a fake of its HTTP API, which shows that requests and answers
fit together, not how a cluster ranks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pratique.core.clock import SystemClock
from pratique.core.metrics import Metrics
from pratique.orchestrator.retrieval.documents import Document, Source
from pratique.orchestrator.retrieval.embedded.build import build_index
from pratique.orchestrator.retrieval.embedded.retriever import EmbeddedRetriever
from pratique.orchestrator.retrieval.guarded import GuardedRetriever
from pratique.orchestrator.retrieval.interface import RetrievalUnavailableError
from pratique.orchestrator.retrieval.memory import MemoryRetriever
from pratique.orchestrator.retrieval.opensearch import OpenSearchRetriever, connect
from pratique.orchestrator.retrieval.opensearch_index import fill_index
from pratique.orchestrator.retrieval.relevance import Cutoffs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

CUTOFFS = Cutoffs(min_coverage=0.3, relative_score=0.2)
DOCUMENTS = (
    Document(id="lamp", title="Lighthouse", text="A keeper lights the lamp.", url="https://manga.example/lamp"),
    Document(id="port", title="Harbour", text="Ships pass the lighthouse on their way home."),
    Document(id="cook", title="Stall", text="A cook makes noodles at night."),
    Document(id="cats", title="猫塚商店街", text="商店街に住む猫が謎を解く。"),
    Document(id="tower", title="潮見坂", text="岬の灯台に老人が暮らす。"),
)
SOURCE = Source(documents=DOCUMENTS, digest="c" * 64)


async def _fill(url: str, alias: str) -> OpenSearchRetriever:
    client = connect(url, timeout_seconds=20.0)
    await fill_index(client, alias, SOURCE)
    return OpenSearchRetriever(client, alias, CUTOFFS)


@pytest.fixture(params=["memory", "embedded", "opensearch-fake", "opensearch-real"])
async def retriever(request: pytest.FixtureRequest, tmp_path: Path, fake_url: str) -> AsyncIterator[GuardedRetriever]:
    inner: Any
    if request.param == "memory":
        inner = MemoryRetriever(DOCUMENTS, CUTOFFS)
    elif request.param == "embedded":
        build_index(SOURCE, tmp_path / "index")
        inner = EmbeddedRetriever(tmp_path / "index", CUTOFFS, clock=SystemClock())
    elif request.param == "opensearch-fake":
        inner = await _fill(fake_url, "contract")
    else:
        namespace = request.getfixturevalue("opensearch")  # skips where there is none
        inner = await _fill(namespace.url, namespace.index("contract"))
    guarded = GuardedRetriever(inner, clock=SystemClock(), metrics=Metrics(), deadline_seconds=20.0)
    yield guarded
    await guarded.aclose()


async def ids(retriever: GuardedRetriever, query: str, limit: int = 4) -> list[str]:
    return [passage.source_id for passage in await retriever.search(query, limit=limit)]


async def test_words_find_passages_the_title_before_the_text(retriever: GuardedRetriever) -> None:
    await retriever.check()
    found = await retriever.search("Is there a story about a lighthouse?", limit=4)
    assert [each.source_id for each in found] == ["lamp", "port"]
    assert found[0].score >= found[1].score > 0
    assert (found[0].title, found[0].url) == ("Lighthouse", "https://manga.example/lamp")
    assert found[0].text == "Lighthouse\nA keeper lights the lamp."
    assert found[1].url is None


async def test_japanese_finds_japanese(retriever: GuardedRetriever) -> None:
    assert (await ids(retriever, "灯台の話はありますか"))[:1] == ["tower"]
    assert (await ids(retriever, "猫"))[:1] == ["cats"]


async def test_no_more_than_asked_are_given(retriever: GuardedRetriever) -> None:
    assert await ids(retriever, "lighthouse", limit=1) == ["lamp"]
    assert await ids(retriever, "lighthouse", limit=0) == []


async def test_what_nothing_answers_is_given_nothing(retriever: GuardedRetriever) -> None:
    for query in ("", "hello", "こんにちは", "📚", "spaceship dinosaurs", "宇宙"):
        assert await ids(retriever, query) == [], query


HOSTILE = (
    "title:lighthouse",
    'lighthouse AND "',
    "lighthouse) OR (*:*",
    "+lighthouse -keeper",
    "lighthouse~2 [a TO z]",
    "/light.*/ lighthouse",
    '{"match_all":{}} lighthouse',
    "lighthouse\\",
    "lighthouse\x00",
)


async def test_query_language_is_plain_text(retriever: GuardedRetriever) -> None:
    for query in HOSTILE:
        assert (await ids(retriever, query))[:1] == ["lamp"], query
        assert "cook" not in await ids(retriever, query), query
    for query in ("*", "*:*", "title:*", "_exists_:title", "/.*/"):
        assert await ids(retriever, query) == [], query


async def test_a_huge_question_is_answered(retriever: GuardedRetriever) -> None:
    assert "lamp" in await ids(retriever, "lighthouse keeper " * 50_000)
    assert await ids(retriever, "x" * 1_000_000) == []


async def test_a_closed_one_is_unavailable(retriever: GuardedRetriever) -> None:
    await retriever.aclose()
    with pytest.raises(RetrievalUnavailableError, match="closed"):
        await retriever.search("lighthouse", limit=4)
