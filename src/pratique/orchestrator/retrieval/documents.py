"""Documents as people give them: JSON Lines, one object a line, read strictly.

    {"id": "m01/en", "title": "…", "text": "…", "url": "https://…", "tags": ["…"], "facts": {"Author": "…"}}

`id`, `title` and `text` must be there. Unknown keys are refused: a misspelt one would be text that nobody finds.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from pratique.core.errors import CallerError, EnvironmentFaultError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["MAX_LINE_BYTES", "Document", "DocumentsError", "Source", "load_documents", "parse_documents"]

MAX_LINE_BYTES: Final = 2 * 2**20
_Name = Annotated[str, Meta(min_length=1, max_length=256)]
_Url = Annotated[str, Meta(max_length=2000, pattern="^https?://")]


class DocumentsError(CallerError):
    """A line is no document."""

    code = "invalid_documents"


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One text of its own, with what a person is shown as its source."""

    id: _Name
    title: Annotated[str, Meta(min_length=1, max_length=500)]
    text: str
    url: _Url | None = None
    """Of a web page; any other scheme is refused, because the chat page makes a link of it."""
    tags: tuple[_Name, ...] = ()
    """Further words to be found by; not shown to the model."""
    facts: dict[_Name, str] = {}
    """Short things to know, as "Author: …"; they stand before the text."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """All documents of one file."""

    documents: tuple[Document, ...]
    digest: str
    """SHA-256 of the file, in hexadecimal."""


def load_documents(path: Path, *, max_bytes: int | None = None) -> Source:
    """Read a file of documents.

    Raises:
        DocumentsError: naming the line and what is wrong with it, or the file is larger than `max_bytes`.
        EnvironmentFaultError: the file cannot be read.
    """
    try:
        size = path.stat().st_size
        if max_bytes is not None and size > max_bytes:
            raise DocumentsError(
                f"Expected at most {max_bytes} bytes in {path}; it has {size}.",
                hint="Build the index beforehand: `pratique retrieval index`.",
            )
        raw = path.read_bytes()
    except OSError as error:
        raise EnvironmentFaultError(f"The documents cannot be read: {error}.") from error
    documents = parse_documents(raw.split(b"\n"), name=str(path))
    return Source(documents=documents, digest=hashlib.sha256(raw).hexdigest())


def parse_documents(lines: Iterable[bytes], *, name: str) -> tuple[Document, ...]:
    """Read one document a line; empty lines are left out.

    Raises:
        DocumentsError: naming the line and what is wrong with it.
    """
    decoder = msgspec.json.Decoder(Document)
    seen: dict[str, int] = {}
    documents = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if len(line) > MAX_LINE_BYTES:
            raise DocumentsError(f"{name}, line {number}: expected at most {MAX_LINE_BYTES} bytes; found {len(line)}.")
        try:
            document = decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DocumentsError(
                f"{name}, line {number} is no document: {error}.", hint="Each line is an object: id, title, text, …"
            ) from error
        if document.id in seen:
            raise DocumentsError(f"{name}, line {number}: the id '{document.id}' is that of line {seen[document.id]}.")
        seen[document.id] = number
        documents.append(document)
    if not documents:
        raise DocumentsError(f"{name} holds no document.", hint="Each line is an object: id, title, text, …")
    return tuple(documents)
