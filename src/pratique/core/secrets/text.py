"""One text, scanned: every rule at every anchor, the most telling rule where several see the same, comments that allow.

Texts are bytes read as Latin-1, one character a byte: no content is invalid, and every secret that a rule knows is
ASCII.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pratique.core.secrets.anchors import AnchorFinder
from pratique.core.secrets.looks import fingerprint, mask
from pratique.core.secrets.model import Finding, Hit, Place
from pratique.core.secrets.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pratique.core.secrets.model import Rule

__all__ = ["MAX_HITS", "decode", "find_hits", "is_allowed_inline", "make_finding"]

MAX_HITS: Final = 1000
"""In one text; a text with more of them is no less found."""
_ALLOW: Final = re.compile(r"pratique: allow-secret[ \t:(\-]{1,8}[A-Za-z][^\n]{2,200}")
_ANCHORS: Final = AnchorFinder(RULES)
_NUL_SHARE: Final = 0.3
_CONTROLS: Final = bytes({*range(32), 127} - set(b"\t\n\v\f\r\x1b"))
_MAX_CONTROL_SHARE: Final = 0.05
"""Of a text that a stray byte got into. What is compressed or encrypted has twice as many, programs have more."""
_MIN_CONTROLS: Final = 2
_LOOK: Final = 4096


def decode(content: bytes) -> str | None:
    """Return the text of some content, or None where it is binary. UTF-16 is known by its mark or its many zeros.

    A zero alone makes nothing binary: one would hide all that stands around it.
    """
    head = content[:_LOOK]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _from_utf16(content, "utf-16")
    if b"\0" not in head:
        return content.decode("latin-1")
    for codec, zeros, others in (("utf-16-le", head[1::2], head[::2]), ("utf-16-be", head[::2], head[1::2])):
        if zeros.count(0) > _NUL_SHARE * len(head) and b"\0" not in others:
            return _from_utf16(content, codec)
    num_controls = len(head) - len(head.translate(None, _CONTROLS))
    is_text = num_controls <= max(_MIN_CONTROLS, _MAX_CONTROL_SHARE * len(head))
    return content.decode("latin-1") if is_text else None


def _from_utf16(content: bytes, codec: str) -> str:
    return content.decode(codec, "replace").encode("utf-8", "replace").decode("latin-1")


def find_hits(text: str) -> list[Hit]:
    """Return the secrets of a text, in their order."""
    taken: list[tuple[int, int]] = []
    hits: list[Hit] = []
    # The rules stand from the most to the least telling: what one has taken is not told again by the next.
    for rule, places in _ANCHORS.find(text):
        for start, end in _spans(rule, places, text):
            if any(start < other_end and other_start < end for other_start, other_end in taken):
                continue
            taken.append((start, end))
            line = text.count("\n", 0, start) + 1
            hits.append(Hit(rule=rule, start=start, end=end, line=line, secret=text[start:end]))
            if len(hits) >= MAX_HITS:
                return hits
    return sorted(hits, key=lambda hit: hit.start)


def _spans(rule: Rule, places: Sequence[int], text: str) -> Iterator[tuple[int, int]]:
    looked_until = 0
    for at in places:
        if at >= looked_until and (found := rule.find(text, at)):
            yield found
            looked_until = found[1]


def is_allowed_inline(text: str, hit: Hit) -> bool:
    """Whether the hit's line says `pratique: allow-secret` and why."""
    begin = text.rfind("\n", 0, hit.start) + 1
    end = text.find("\n", hit.end)
    # A line of megabytes is no line that somebody commented.
    begin, end = max(begin, hit.start - _LOOK), min(end if end >= 0 else len(text), hit.end + _LOOK)
    return _ALLOW.search(text, begin, end) is not None


def make_finding(hit: Hit, place: Place, *, first_line: int = 1) -> Finding:
    """Return what may be said of a hit."""
    return Finding(
        rule=hit.rule.id,
        meaning=hit.rule.meaning,
        advice=hit.rule.advice,
        place=place,
        line=hit.line + first_line - 1,
        shown=mask(hit.secret, prefix=hit.secret[: hit.rule.shows]),
        fingerprint=fingerprint(hit.secret),
    )
