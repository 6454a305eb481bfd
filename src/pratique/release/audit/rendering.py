"""An audit for people: as text, and as one HTML page that needs nothing else. Pure.

What evidence says is foreign: characters that are not seen are shown as escapes, markup is escaped by the template, and
the page's own policy (CSP) lets nothing be loaded and no script run. It reads the same in print.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from typing import Final

import msgspec

from pratique.release.audit.report import Report
from pratique.release.plain import plain

__all__ = ["render_html", "render_text"]

_SIGNS: Final = {"holds": "holds", "broken": "BROKEN", "undecided": "UNDECIDED"}
_WORDS: Final = {
    "holds": "Every link holds.",
    "broken": "Something does not hold.",
    "undecided": "It could not be decided.",
}
_TITLES: Final = {
    "ledger": "Ledger",
    "running": "Where it runs",
    "signature": "Signature",
    "revocation": "Not revoked",
    "source": "Source and build",
    "sbom": "Bill of materials",
    "evaluation": "Evaluation",
    "evidence": "Evidence in the registry",
    "gate": "The gate now",
}


_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def render_text(report: Report) -> str:
    """Return the report as lines."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield f"{plain(report.repository)}@{report.digest}"
    yield f"audited at {report.audited_at.isoformat()}, policy {report.policy or 'none'}"
    for link in report.links:
        yield f"{_SIGNS[link.verdict]:10} {_TITLES[link.name]}: {plain(link.reason)}"
        for fact in link.facts:
            yield f"{'':10}   {plain(fact.name)}: {plain(fact.value)}"
    for event in report.events:
        loud = "!!! " if event.is_loud else ""
        where = f" {plain(event.environment)}" if event.environment else ""
        yield (
            f"{_SIGNS[event.verdict]:10} {event.index} {event.at.isoformat()} {loud}{event.kind}{where}"
            f" by {plain(event.actor)}: {plain(event.summary)}"
        )
        if event.reason:
            yield f"{'':10}   {plain(event.reason)}"
    for one in report.unproved:
        yield f"{'':10} proves nothing: {plain(one.name)}: {plain(one.value)}"
    yield _WORDS[report.verdict]


def _words(text: str) -> str:
    """Return text as HTML, its digests as code."""
    from markupsafe import Markup, escape

    return Markup(_DIGEST.sub(r"<code>\g<0></code>", str(escape(plain(text)))))  # noqa: S704 - escaped; a digest is hex


def _moment(text: str) -> str:
    """Return a time of RFC 3339 in UTC to the second, as people read it."""
    return f"{text[:10]} {text[11:19]} UTC"


def render_html(report: Report) -> str:
    """Return the report as a page: no script, nothing loaded, markup in what evidence says is text."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"plain": plain, "words": _words, "moment": _moment}
    source = resources.files("pratique.release.audit").joinpath("report.html.j2").read_text(encoding="utf-8")
    page = environment.from_string(source)
    return page.render(report=msgspec.to_builtins(report), signs=_SIGNS, words=_WORDS, titles=_TITLES)
