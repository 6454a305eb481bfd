"""The table [orchestrator.retrieval]."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from pratique.core.settings import Settings

__all__ = ["RetrievalSettings"]

_Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]


class RetrievalSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where passages come from, and how many."""

    kind: Literal["none", "embedded", "opensearch"] = "none"
    """An index in a folder, a cluster, or no retrieval."""
    index: Path | None = None
    """The folder of the embedded index. By default retrieval-index in the state folder."""
    source: Path | None = None
    """Documents, as JSON Lines of at most 16 MB: the embedded index is built of them at start unless it already is."""
    passage_characters: Annotated[int, Meta(ge=100, le=20_000)] = 800
    """The longest passage that an index built at start is cut into."""
    overlap_characters: Annotated[int, Meta(ge=0, le=10_000)] = 100
    """By how much its passages overlap; at most half of one."""

    limit: Annotated[int, Meta(ge=1, le=20)] = 4
    """At most this many passages go with a question; what of them fits is the model server's decision."""
    min_coverage: _Share = 0.35
    """How much of the question, its words weighed by their rarity, a passage must hold."""
    relative_score: _Share = 0.4
    """Passages that score less than this share of the best one are left out."""
    deadline_seconds: Annotated[float, Meta(gt=0, le=60)] = 1.0
    """Past this the reply goes on without passages, and says so."""
    query_characters: Annotated[int, Meta(ge=1, le=20_000)] = 2000
    """Of a question that are looked at; the rest is cut."""
    threads: Annotated[int, Meta(ge=1, le=16)] = 2
    """That search the embedded index."""

    opensearch_url: str = "http://127.0.0.1:9200"
    """Without user and password; see opensearch_auth_file."""
    opensearch_index: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_.-]{0,199}$")] = "pratique"
    """An alias, as `pratique retrieval index --into URL` makes it, or an index."""
    opensearch_auth_file: Path | None = None
    """One line, user:password."""
    opensearch_ca_file: Path | None = None
    """Certificates, in PEM, that its TLS is checked with. By default the system's."""
