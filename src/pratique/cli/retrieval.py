"""`pratique retrieval index | search | verify`: parse, call, render.

A PLACE is the folder of an embedded index, or the http(s) address of an OpenSearch cluster.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from pratique.core.errors import CallerError

if TYPE_CHECKING:
    from pratique.orchestrator.retrieval.documents import Source
    from pratique.orchestrator.retrieval.interface import Passage, Retriever
    from pratique.orchestrator.retrieval.passages import Cut
    from pratique.orchestrator.retrieval.relevance import Cutoffs

__all__ = ["app"]

app = typer.Typer(help="Build, search and verify an index of passages.", no_args_is_help=True)

_FILL_SECONDS = 60.0
_ASK_SECONDS = 10.0
_Place = Annotated[str, typer.Argument(help="The index's folder, or http(s)://… of OpenSearch.", metavar="PLACE")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
_Alias = Annotated[str, typer.Option(help="The index's name in OpenSearch, an alias.")]
_Auth = Annotated[Path | None, typer.Option(help="OpenSearch's user:password, one line.")]
_CaFile = Annotated[Path | None, typer.Option(help="Certificates that OpenSearch's TLS is checked with.")]
_Share = Annotated[float, typer.Option(min=0, max=1, help="As the setting of this name.")]


@app.command("index")
def build(
    source: Annotated[Path, typer.Argument(help="Documents, one JSON object a line.", metavar="SOURCE.jsonl")],
    into: Annotated[str, typer.Option(help="The index's folder, or http(s)://… of OpenSearch.", metavar="PLACE")],
    alias: _Alias = "pratique",
    analyzer: Annotated[str, typer.Option(help="In OpenSearch: auto, kuromoji or cjk.")] = "auto",
    auth_file: _Auth = None,
    ca_file: _CaFile = None,
    passage_characters: Annotated[int, typer.Option(min=100, max=20_000, help="The longest passage.")] = 800,
    overlap_characters: Annotated[int, typer.Option(min=0, max=10_000, help="By how much passages overlap.")] = 100,
    as_json: _Json = False,
) -> None:
    """Build an index of documents. One that is in use is replaced once the new one is whole."""
    from pratique.orchestrator.retrieval.documents import load_documents
    from pratique.orchestrator.retrieval.passages import Cut

    try:
        cut = Cut(size=passage_characters, overlap=overlap_characters)
    except ValueError as error:
        raise CallerError(str(error)) from error
    loaded = load_documents(source)
    if _is_address(into):
        made: msgspec.Struct = asyncio.run(
            _fill(into, loaded, cut, alias=alias, analyzer=analyzer, auth_file=auth_file, ca_file=ca_file)
        )
    else:
        from pratique.orchestrator.retrieval.embedded.build import build_index

        made = build_index(loaded, Path(into), cut)
    _print_index(msgspec.to_builtins(made), "built", as_json=as_json)


@app.command("search")
def search(
    place: _Place,
    query: Annotated[str, typer.Argument(help="A question, as a person asks it.", metavar="QUESTION")],
    limit: Annotated[int, typer.Option(min=1, max=20, help="At most so many passages.")] = 4,
    min_coverage: _Share = 0.35,
    relative_score: _Share = 0.4,
    alias: _Alias = "pratique",
    auth_file: _Auth = None,
    ca_file: _CaFile = None,
    as_json: _Json = False,
) -> None:
    """Show what a model would be given with a question. Exit code 1: nothing."""
    from pratique.orchestrator.retrieval.relevance import Cutoffs

    cutoffs = Cutoffs(min_coverage=min_coverage, relative_score=relative_score)

    async def ask() -> tuple[Passage, ...]:
        retriever = _open(place, cutoffs, alias=alias, auth_file=auth_file, ca_file=ca_file)
        try:
            return await retriever.search(query, limit=limit)
        finally:
            await retriever.aclose()

    passages = asyncio.run(ask())
    if as_json:
        print(msgspec.json.encode({"schema_version": 1, "passages": passages}).decode())
    elif not passages:
        print("nothing fits this question", file=sys.stderr)
    else:
        for passage in passages:
            address = f"  {passage.url}" if passage.url else ""
            print(f"{passage.score:7.2f}  {passage.source_id}  {passage.title}{address}")
    if not passages:
        raise typer.Exit(1)


@app.command("verify")
def verify(
    folder: Annotated[Path, typer.Argument(help="The index's folder.", metavar="FOLDER")], as_json: _Json = False
) -> None:
    """Check that an index is whole, and readable by this version. Reads all of its files."""
    from pratique.orchestrator.retrieval.embedded.manifest import load_manifest, verify_files
    from pratique.orchestrator.retrieval.embedded.reader import IndexReader
    from pratique.orchestrator.retrieval.relevance import Cutoffs
    from pratique.orchestrator.retrieval.words import Words

    manifest = load_manifest(folder)
    verify_files(manifest, folder)
    IndexReader(folder, manifest, Words()).search("verify", Cutoffs(), limit=1)
    _print_index(msgspec.to_builtins(manifest), "whole", as_json=as_json)


def _is_address(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _open(place: str, cutoffs: Cutoffs, *, alias: str, auth_file: Path | None, ca_file: Path | None) -> Retriever:
    from pratique.core.clock import SystemClock
    from pratique.core.metrics import Metrics
    from pratique.orchestrator.retrieval.guarded import GuardedRetriever

    inner: Retriever
    if _is_address(place):
        from pratique.orchestrator.retrieval.opensearch import OpenSearchRetriever, connect, read_auth

        client = connect(place, auth=read_auth(auth_file), ca_file=ca_file, timeout_seconds=_ASK_SECONDS)
        inner = OpenSearchRetriever(client, alias, cutoffs)
    else:
        from pratique.orchestrator.retrieval.embedded.retriever import EmbeddedRetriever

        inner = EmbeddedRetriever(Path(place), cutoffs, clock=SystemClock())
    return GuardedRetriever(inner, clock=SystemClock(), metrics=Metrics(), deadline_seconds=_ASK_SECONDS)


async def _fill(
    url: str,
    source: Source,
    cut: Cut,
    *,
    alias: str,
    analyzer: str,
    auth_file: Path | None,
    ca_file: Path | None,
) -> msgspec.Struct:
    from pratique.orchestrator.retrieval.opensearch import connect, read_auth
    from pratique.orchestrator.retrieval.opensearch_index import ANALYZERS, fill_index

    if analyzer not in ANALYZERS:
        raise CallerError(f"Expected one of {', '.join(ANALYZERS)}; found '{analyzer}'.")
    client = connect(url, auth=read_auth(auth_file), ca_file=ca_file, timeout_seconds=_FILL_SECONDS)
    try:
        return await fill_index(client, alias, source, cut, analyzer=analyzer)
    finally:
        await client.close()


def _print_index(fields: dict[str, object], verb: str, *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode({"schema_version": 1, **fields}).decode())
        return
    name = fields.get("index") or fields.get("generation")
    print(f"{verb}: {name}, {fields['num_passages']} passages of {fields['num_documents']} documents", file=sys.stderr)
