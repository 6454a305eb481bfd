"""The embedded index: built beside, switched, refused where it is not ours."""

from __future__ import annotations

import fcntl
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from pratique.core.clock import ManualClock
from pratique.core.errors import EnvironmentFaultError
from pratique.orchestrator.retrieval.documents import Document, Source
from pratique.orchestrator.retrieval.embedded import build
from pratique.orchestrator.retrieval.embedded.build import IndexBusyError, build_index, ensure_index
from pratique.orchestrator.retrieval.embedded.manifest import (
    IndexDamagedError,
    IndexMissingError,
    IndexVersionError,
    load_manifest,
    verify_files,
)
from pratique.orchestrator.retrieval.embedded.reader import IndexReader
from pratique.orchestrator.retrieval.embedded.retriever import EmbeddedRetriever
from pratique.orchestrator.retrieval.interface import RetrievalUnavailableError
from pratique.orchestrator.retrieval.passages import Cut
from pratique.orchestrator.retrieval.relevance import Cutoffs
from pratique.orchestrator.retrieval.words import Words

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.unit

CUT = Cut()


def source(*titles: str, digest: str = "0" * 64) -> Source:
    documents = tuple(Document(id=title, title=title, text=f"A story of {title}.") for title in titles)
    return Source(documents=documents, digest=digest)


@pytest.fixture(scope="module")
def words() -> Words:
    return Words()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def retriever(folder: Path, clock: ManualClock) -> AsyncIterator[EmbeddedRetriever]:
    found = EmbeddedRetriever(folder, clock=clock)
    yield found
    await found.aclose()


def ids_of(reader: IndexReader, query: str) -> list[str]:
    return [each.source_id for each in reader.search(query, Cutoffs(), limit=4)]


def change_manifest(folder: Path, **fields: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **fields}))


@pytest.mark.parametrize("package", ["tantivy", "sudachipy", "sudachidict-small", "words"])
def test_an_index_of_another_version_is_refused_with_the_version(folder: Path, words: Words, package: str) -> None:
    manifest = build_index(source("Harbour"), folder, words=words)
    change_manifest(folder, made_by={**manifest.made_by, package: "0.0.1"})
    with pytest.raises(IndexVersionError, match=f"other versions: {package} 0.0.1 ") as raised:
        IndexReader(folder, load_manifest(folder), words)
    assert "pratique retrieval index" in (raised.value.hint or "")


def test_an_index_of_another_format_is_refused(folder: Path, words: Words) -> None:
    build_index(source("Harbour"), folder, words=words)
    change_manifest(folder, format=99)
    with pytest.raises(IndexVersionError, match="found 99"):
        IndexReader(folder, load_manifest(folder), words)


@pytest.mark.parametrize("generation", ["../../elsewhere", "/etc", "g-../x", ""])
def test_a_manifest_cannot_lead_elsewhere(folder: Path, words: Words, generation: str) -> None:
    build_index(source("Harbour"), folder, words=words)
    change_manifest(folder, generation=generation)
    with pytest.raises(IndexDamagedError, match="no manifest"):
        load_manifest(folder)


def test_a_damaged_index_is_refused(folder: Path, words: Words) -> None:
    manifest = build_index(source("Harbour"), folder, words=words)
    place = folder / manifest.generation
    largest = max(manifest.files, key=lambda name: manifest.files[name].bytes)
    whole = (place / largest).read_bytes()
    (place / largest).write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(IndexDamagedError, match="is not what the manifest says"):
        verify_files(manifest, folder)
    (place / largest).write_bytes(whole[:-1])
    with pytest.raises(IndexDamagedError, match=r"Expected .* bytes"):
        IndexReader(folder, manifest, words)
    (place / largest).unlink()
    with pytest.raises(IndexDamagedError, match="cannot be read"):
        verify_files(manifest, folder)
    with pytest.raises(IndexDamagedError, match="cannot be opened"):
        IndexReader(folder, manifest, words)


def test_an_index_with_other_passages_than_it_says_is_refused(folder: Path, words: Words) -> None:
    build_index(source("Harbour"), folder, words=words)
    change_manifest(folder, num_passages=7)
    with pytest.raises(IndexDamagedError, match="Expected 7 passages"):
        IndexReader(folder, load_manifest(folder), words)


def test_a_folder_without_an_index_and_one_that_cannot_be_read_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(IndexMissingError, match="no index"):
        load_manifest(tmp_path)
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(IndexDamagedError, match="cannot be read"):
        load_manifest(tmp_path)


def test_a_new_index_replaces_the_old_one_whose_readers_go_on(folder: Path, words: Words) -> None:
    first = build_index(source("Harbour"), folder, words=words)
    verify_files(first, folder)
    reader = IndexReader(folder, first, words)
    for number in range(2):
        build_index(source("Volcano", digest=f"{number}" * 64), folder, words=words)
    assert not (folder / first.generation).exists()
    assert ids_of(reader, "harbour") == ["Harbour"]
    assert ids_of(IndexReader(folder, load_manifest(folder), words), "volcano") == ["Volcano"]
    # The one in use, and the one before it: a reader may just be opening that.
    assert len(list(folder.glob("g-*"))) == 2


def test_a_reader_writes_nothing_into_the_index(folder: Path, words: Words) -> None:
    manifest = build_index(source("Harbour"), folder, words=words)
    before = sorted(path.name for path in folder.rglob("*"))
    reader = IndexReader(folder, manifest, words)
    assert ids_of(reader, "harbour") == ["Harbour"]
    assert sorted(path.name for path in folder.rglob("*")) == before


def test_an_index_that_is_current_is_not_built_again(folder: Path) -> None:
    first, was_built = ensure_index(source("Harbour"), folder, CUT)
    assert was_built
    assert ensure_index(source("Harbour"), folder, CUT) == (first, False)
    _, was_built = ensure_index(source("Harbour", digest="1" * 64), folder, CUT)
    assert was_built
    _, was_built = ensure_index(source("Harbour", digest="1" * 64), folder, Cut(size=400))
    assert was_built
    change_manifest(folder, format=0)
    _, was_built = ensure_index(source("Harbour", digest="1" * 64), folder, Cut(size=400))
    assert was_built


def test_one_builds_at_a_time(folder: Path, words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(source("Harbour"), folder, words=words)
    monkeypatch.setattr(build, "_LOCK_SECONDS", 0.06)
    with (folder / "lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(IndexBusyError, match="Another process builds"):
            build_index(source("Volcano"), folder, words=words)
    build_index(source("Volcano"), folder, words=words)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, words: Words) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFaultError, match="cannot be written"):
        build_index(source("Harbour"), tmp_path / "file", words=words)


def test_a_build_that_fails_leaves_the_old_index_and_no_rests(
    folder: Path, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = build_index(source("Harbour"), folder, words=words)

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build, "_flush", full)
    with pytest.raises(EnvironmentFaultError, match="No space left"):
        build_index(source("Volcano"), folder, words=words)
    assert load_manifest(folder) == manifest
    assert [path.name for path in folder.glob("g-*")] == [manifest.generation]


@pytest.mark.anyio
async def test_an_index_is_used_from_when_it_is_there(
    folder: Path, words: Words, clock: ManualClock, retriever: EmbeddedRetriever
) -> None:
    with pytest.raises(RetrievalUnavailableError, match="no index"):
        await retriever.check()
    build_index(source("Harbour"), folder, words=words)
    await retriever.check()
    build_index(source("Volcano", digest="1" * 64), folder, words=words)
    assert len(await retriever.search("harbour", limit=4)) == 1
    await clock.advance(2.0)
    assert await retriever.search("harbour", limit=4) == ()
    assert len(await retriever.search("volcano", limit=4)) == 1


@pytest.mark.anyio
async def test_an_index_that_cannot_be_opened_leaves_the_old_one_in_use(
    folder: Path, words: Words, clock: ManualClock, retriever: EmbeddedRetriever
) -> None:
    build_index(source("Harbour"), folder, words=words)
    await retriever.check()
    build_index(source("Volcano", digest="1" * 64), folder, words=words)
    change_manifest(folder, format=99)
    for _ in range(2):
        await clock.advance(2.0)
        assert len(await retriever.search("harbour", limit=4)) == 1
    shutil.rmtree(folder)
    await clock.advance(2.0)
    assert len(await retriever.search("harbour", limit=4)) == 1


@pytest.mark.anyio
async def test_what_the_engine_raises_is_translated(
    folder: Path, words: Words, retriever: EmbeddedRetriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(source("Harbour"), folder, words=words)

    def fails(*_: Any, **__: Any) -> Any:
        raise ValueError("a file is corrupted")

    monkeypatch.setattr(IndexReader, "search", fails)
    with pytest.raises(RetrievalUnavailableError, match="a file is corrupted"):
        await retriever.search("harbour", limit=4)


class Panic(BaseException):
    """As pyo3's PanicException: no Exception."""


async def test_a_panic_inside_the_index_is_an_index_that_cannot_be_asked(
    retriever: EmbeddedRetriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    def panic() -> None:
        raise Panic("index out of bounds")

    monkeypatch.setattr(retriever, "_current", panic)
    with pytest.raises(RetrievalUnavailableError, match="Panic: index out of bounds"):
        await retriever.check()
    with pytest.raises(RetrievalUnavailableError, match="Panic: index out of bounds"):
        await retriever.search("lamp", limit=1)
