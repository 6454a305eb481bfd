"""OpenSearch: what is sent to it, how an index replaces another, and what happens when it is away."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from pratique.cli.retrieval import app
from pratique.core.errors import EnvironmentFaultError
from pratique.orchestrator.retrieval.documents import Document, Source
from pratique.orchestrator.retrieval.interface import RetrievalUnavailableError
from pratique.orchestrator.retrieval.opensearch import OpenSearchRetriever, connect
from pratique.orchestrator.retrieval.opensearch_index import fill_index
from pratique.orchestrator.retrieval.relevance import Cutoffs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from opensearchpy import AsyncOpenSearch

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


def source(title: str, digest: str = "0") -> Source:
    return Source(documents=(Document(id="a", title=title, text="x"),), digest=digest * 64)


@pytest.fixture
async def client(fake_url: str) -> AsyncIterator[AsyncOpenSearch]:
    connected = connect(fake_url)
    yield connected
    await connected.close()


async def test_the_plugin_decides_the_analyzer_unless_it_is_named(fake: Any, client: AsyncOpenSearch) -> None:
    assert (await fill_index(client, "books", source("Harbour"))).analyzer == "cjk"
    fake.plugins = ["analysis-icu", "analysis-kuromoji"]
    made = await fill_index(client, "books", source("Harbour"))
    assert made.analyzer == "kuromoji"
    analysis = fake.indices[made.index]["settings"]["analysis"]
    assert analysis["analyzer"]["pratique"]["tokenizer"] == "kuromoji_tokenizer"
    assert (await fill_index(client, "books", source("Harbour"), analyzer="cjk")).analyzer == "cjk"


async def test_a_new_index_takes_the_alias_and_the_old_one_goes(fake: Any, client: AsyncOpenSearch) -> None:
    first = await fill_index(client, "books", source("Harbour"))
    second = await fill_index(client, "books", source("Volcano", "1"))
    assert fake.aliases == {"books": {second.index}}
    assert first.index not in fake.indices
    retriever = OpenSearchRetriever(client, "books")
    assert [each.title for each in await retriever.search("volcano", limit=4)] == ["Volcano"]
    assert await retriever.search("harbour", limit=4) == ()


async def test_documents_that_are_refused_leave_the_old_index(fake: Any, client: AsyncOpenSearch) -> None:
    first = await fill_index(client, "books", source("Harbour"))
    fake.refuses_bulk = True
    with pytest.raises(EnvironmentFaultError, match="did not take the index"):
        await fill_index(client, "books", source("Volcano", "1"))
    assert fake.aliases == {"books": {first.index}}
    assert set(fake.indices) == {first.index}


async def test_a_switch_whose_answer_is_lost_costs_no_index(fake: Any, client: AsyncOpenSearch) -> None:
    await fill_index(client, "books", source("Harbour"))
    fake.loses_moves = True
    with pytest.raises(EnvironmentFaultError, match="did not take the index"):
        await fill_index(client, "books", source("Volcano", "1"))
    assert [each.title for each in await OpenSearchRetriever(client, "books").search("volcano", limit=4)] == ["Volcano"]


async def test_the_question_is_text_and_the_cutoff_is_the_clusters(fake: Any, client: AsyncOpenSearch) -> None:
    await fill_index(client, "books", source("Harbour"))
    retriever = OpenSearchRetriever(client, "books", Cutoffs(min_coverage=0.5, relative_score=0.0))
    assert await retriever.search('harbour" OR title:*', limit=3) != ()
    (body,) = fake.searches
    assert body["size"] == 3
    assert body["query"] == {
        "multi_match": {
            "query": 'harbour" OR title:*',
            "fields": ["title^2", "text"],
            "type": "cross_fields",
            "minimum_should_match": "50%",
        }
    }


async def test_a_missing_index_is_told_with_the_way_to_build_it(client: AsyncOpenSearch) -> None:
    retriever = OpenSearchRetriever(client, "none")
    with pytest.raises(RetrievalUnavailableError, match="no index 'none'") as raised:
        await retriever.check()
    assert "pratique retrieval index" in (raised.value.hint or "")
    with pytest.raises(RetrievalUnavailableError, match="index_not_found_exception"):
        await retriever.search("harbour", limit=4)


async def test_a_cluster_that_is_gone_is_unavailable() -> None:
    client = connect("http://127.0.0.1:9", timeout_seconds=2.0)
    retriever = OpenSearchRetriever(client, "books")
    with pytest.raises(RetrievalUnavailableError, match="cannot be asked"):
        await retriever.check()
    with pytest.raises(EnvironmentFaultError, match="did not take the index"):
        await fill_index(client, "books", source("Harbour"))
    await retriever.aclose()


async def test_an_answer_of_another_shape_is_unavailable(
    client: AsyncOpenSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def strange(**_: Any) -> Any:
        return {"hits": {"hits": [{"_score": None}]}}

    monkeypatch.setattr(client, "search", strange)
    with pytest.raises(RetrievalUnavailableError, match="not as agreed"):
        await OpenSearchRetriever(client, "books").search("harbour", limit=4)


async def test_the_command_line_builds_and_searches_it(fake: Any, fake_url: str, tmp_path: Path) -> None:
    lines = tmp_path / "source.jsonl"
    await asyncio.to_thread(lines.write_text, '{"id":"h","title":"Harbour","text":"A harbour."}\n')

    async def run(*arguments: str) -> Any:
        return await asyncio.to_thread(CliRunner().invoke, app, arguments)

    built = await run("index", str(lines), "--into", fake_url, "--alias", "books", "--json")
    assert built.exit_code == 0
    assert json.loads(built.stdout)["analyzer"] == "cjk"
    assert list(fake.aliases) == ["books"]
    found = await run("search", fake_url, "harbour", "--alias", "books", "--json")
    assert [each["source_id"] for each in json.loads(found.stdout)["passages"]] == ["h"]
    assert (await run("search", fake_url, "volcano", "--alias", "books")).exit_code == 1
