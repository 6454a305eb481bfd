"""Takes texts in, tells findings: what allow comments and allow files leave, each secret once in a path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pratique.core.secrets.model import Place, Report
from pratique.core.secrets.text import decode, find_hits, is_allowed_inline, make_finding

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from typing import BinaryIO

__all__ = ["OVERLAP_BYTES", "WINDOW_BYTES", "Scanner"]

WINDOW_BYTES: Final = 8 * 1024 * 1024
"""As much of a file is in memory at a time."""
OVERLAP_BYTES: Final = 8 * 1024
"""Longer than what a rule looks at: what lies across two windows is whole in one."""


class Scanner:
    """Gathers one report."""

    def __init__(self, allowed: AbstractSet[str] = frozenset()) -> None:
        self.report = Report()
        self._allowed = allowed
        self._told: set[tuple[str, str]] = set()

    def scan(self, text: str, place: Place, *, first_line: int = 1) -> None:
        """Scan a text."""
        self.report.num_bytes += len(text)
        for hit in find_hits(text):
            finding = make_finding(hit, place, first_line=first_line)
            if (finding.fingerprint, place.path) in self._told:
                continue
            self._told.add((finding.fingerprint, place.path))
            if finding.fingerprint in self._allowed or is_allowed_inline(text, hit):
                self.report.num_allowed += 1
            else:
                self.report.findings.append(finding)

    def scan_stream(self, stream: BinaryIO, place: Place) -> None:
        """Scan a file's content, a window at a time."""
        content = stream.read(WINDOW_BYTES)
        self.report.num_texts += 1
        first_line = 1
        while content:
            text = decode(content)
            if text is None:
                self.report.num_binaries += 1
                return
            self.scan(text, place, first_line=first_line)
            more = stream.read(WINDOW_BYTES)
            if not more:
                return
            # A wide encoding has its mark at the beginning only; nobody has text of that size in one.
            kept = content[-OVERLAP_BYTES:]
            first_line += content.count(b"\n") - kept.count(b"\n")
            content = kept + more
