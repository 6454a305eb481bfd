"""The retriever that the settings name."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from pratique.core.clock import SystemClock
from pratique.core.metrics import Metrics
from pratique.core.settings import SettingsError, load_settings
from pratique.orchestrator.retrieval.build import open_retriever
from pratique.orchestrator.retrieval.documents import DocumentsError
from pratique.orchestrator.retrieval.interface import RetrievalUnavailableError
from pratique.orchestrator.retrieval.opensearch import connect, read_auth
from pratique.orchestrator.retrieval.settings import RetrievalSettings
from pratique.orchestrator.settings import OrchestratorSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

LINE = '{"id":"h","title":"Harbour","text":"A story of a harbour."}\n'


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    path = tmp_path / "catalogue.jsonl"
    path.write_text(LINE)
    return path


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.jsonl"
    path.write_text("{}")
    return path


async def open_with(stack: AsyncExitStack, state_dir: Path | None = None, **fields: Any) -> Any:
    settings = OrchestratorSettings(state_dir=state_dir, retrieval=RetrievalSettings(**fields))
    return await open_retriever(settings, stack, clock=SystemClock(), metrics=Metrics())


async def test_without_a_kind_there_is_none(stack: AsyncExitStack) -> None:
    assert await open_with(stack) is None


async def test_an_index_is_built_of_its_source_in_the_state_folder(
    stack: AsyncExitStack, tmp_path: Path, catalogue: Path
) -> None:
    retriever = await open_with(stack, tmp_path, kind="embedded", source=catalogue)
    (passage,) = await retriever.search("harbour", limit=4)
    assert passage.source_id == "h"
    assert (tmp_path / "retrieval-index" / "manifest.json").exists()


async def test_a_missing_index_is_no_reason_not_to_start(stack: AsyncExitStack, tmp_path: Path) -> None:
    retriever = await open_with(stack, kind="embedded", index=tmp_path / "none")
    with pytest.raises(RetrievalUnavailableError, match="no index"):
        await retriever.search("harbour", limit=4)


async def test_a_cluster_that_is_away_is_no_reason_not_to_start(stack: AsyncExitStack) -> None:
    retriever = await open_with(stack, kind="opensearch", opensearch_url="http://127.0.0.1:9")
    with pytest.raises(RetrievalUnavailableError, match="cannot be asked"):
        await retriever.search("harbour", limit=4)


async def test_settings_that_do_not_go_together_are_refused(stack: AsyncExitStack, catalogue: Path) -> None:
    with pytest.raises(SettingsError, match="no index"):
        await open_with(stack, kind="embedded")
    with pytest.raises(SettingsError, match="overlap"):
        await open_with(
            stack, catalogue.parent, kind="embedded", source=catalogue, passage_characters=100, overlap_characters=51
        )


async def test_a_source_that_holds_no_documents_is_refused(stack: AsyncExitStack, broken: Path) -> None:
    with pytest.raises(DocumentsError, match="line 1"):
        await open_with(stack, broken.parent, kind="embedded", source=broken)


async def test_the_table_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "pratique.toml"
    file.write_text('[orchestrator.retrieval]\nkind = "embedded"\nsource = "catalogue.jsonl"\nlimit = 2\n')
    settings = load_settings(OrchestratorSettings, part="orchestrator", file=file)
    assert (settings.retrieval.kind, str(settings.retrieval.source), settings.retrieval.limit) == (
        "embedded",
        "catalogue.jsonl",
        2,
    )


@pytest.mark.parametrize("url", ["ftp://x", "x:9200", "", "http://"])
async def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="Expected http"):
        connect(url)


@pytest.mark.parametrize(
    "url", ["admin:sec@ret@search:9200", "htps://admin:secret@search:9200", "https://admin:secret@"]
)
def test_password_in_a_wrong_address_is_not_shown(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        connect(url)
    assert "sec" not in str(refused.value)


async def test_a_password_belongs_into_a_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="holds a password"):
        connect("http://admin:secret@127.0.0.1:9200")
    file = tmp_path / "auth"
    assert read_auth(None) is None
    with pytest.raises(SettingsError, match="cannot be read"):
        read_auth(file)
    file.write_text("admin\n")
    with pytest.raises(SettingsError, match="user:password"):
        read_auth(file)
    file.write_text("admin:se:cret\n")
    assert read_auth(file) == ("admin", "se:cret")
