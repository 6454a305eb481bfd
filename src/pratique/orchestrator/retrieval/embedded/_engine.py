"""How tantivy is used: its schema, and the one analyzer it needs, because the words are made by `Words`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pratique.orchestrator.retrieval._extras import import_extra

if TYPE_CHECKING:
    import tantivy

__all__ = ["BODY", "TEXT", "TITLE", "make_schema", "register_words"]

TITLE: Final = "title"
TEXT: Final = "text"
"""Stored too: which words a passage holds decides whether it is relevant."""
BODY: Final = "body"
"""What a search gives back, as JSON; not searched."""
_WORDS: Final = "pratique_words"


def make_schema() -> tantivy.Schema:
    """Return the schema of an index: two fields of words, without positions, and what is shown of a passage."""
    builder = import_extra("tantivy").SchemaBuilder()
    builder.add_text_field(TITLE, tokenizer_name=_WORDS, index_option="freq", stored=True)
    builder.add_text_field(TEXT, tokenizer_name=_WORDS, index_option="freq", stored=True)
    builder.add_bytes_field(BODY, stored=True)
    schema: tantivy.Schema = builder.build()
    return schema


def register_words(index: tantivy.Index) -> None:
    """Make an index take our words as they are: one between each two blanks."""
    engine = import_extra("tantivy")
    index.register_tokenizer(_WORDS, engine.TextAnalyzerBuilder(engine.Tokenizer.whitespace()).build())
