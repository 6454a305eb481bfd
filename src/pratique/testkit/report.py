"""What the plugin says: who provides what, what is missing, what was left behind, what stands beside a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import pytest

from pratique.testkit.errors import ServiceMissingError
from pratique.testkit.services.choice import is_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pratique.testkit.kit import Books, Kit, Use
    from pratique.testkit.services.interface import Endpoint

__all__ = ["Reporting", "failure_sections", "header_lines", "refuse_gaps", "summary"]

_TAIL_LINES = 20


@runtime_checkable
class Reporting(Protocol):
    """A namespace that has more to say about a failure than its server's log."""

    def report(self) -> list[tuple[str, str]]:
        """Return sections: title and text."""


def header_lines(kit: Kit) -> list[str]:
    """Return one line for the services that are here, one for those that are not."""
    here: list[str] = []
    missing: list[str] = []
    for name in kit.services:
        words = kit.words_for(name)
        if is_url(words):
            here.append(f"{name}: {words}")
            continue
        try:
            chosen = kit.choose(name)
        except ServiceMissingError:
            missing.append(name)
            continue
        here.append(f"{name}: {chosen.provider.name} {chosen.found.version}")
    lines = [f"pratique: started on request: {', '.join(here)}"] if here else []
    return lines + ([f"pratique: missing, `pratique testkit tools` says why: {', '.join(missing)}"] if missing else [])


def refuse_gaps(kit: Kit, needed: Sequence[str], behind: Iterable[tuple[str, str | None]]) -> None:
    """Skip (or fail, where services are required) a test whose back end lacks what it needs.

    A need is looked up in every service of the test that knows the word.
    """
    servers = list(dict.fromkeys(behind))
    for need in needed:
        knowing = [(name, use) for name, use in servers if need in kit.service(name).capabilities]
        if not knowing:
            known = sorted({word for name, _ in servers for word in kit.service(name).capabilities})
            pytest.fail(f"needs({need!r}): no service of this test knows it. Known: {', '.join(known)}.", pytrace=False)
        for name, use in knowing:
            try:
                gaps = kit.gaps(name, use)
            except ServiceMissingError:
                continue  # the fixture will say so
            if need in gaps:
                _refuse(kit, f"needs({need!r}): {kit.choose(name, use).provider.name} lacks it: {gaps[need]}")


def _refuse(kit: Kit, reason: str) -> None:
    if kit.options.is_required:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def failure_sections(kit: Kit, endpoint: Endpoint, value: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - any fixture's value
    """Return what stands below a failed test."""
    said = value.report() if isinstance(value, Reporting) else []
    tail = kit.tail_of(endpoint, _TAIL_LINES)
    title = f"{endpoint.service} ({endpoint.provider} {endpoint.version}): last log lines"
    return [*said, *([(title, tail)] if tail else [])]


def summary(books: Books) -> Iterable[tuple[str, list[str]]]:
    """Return the sections of the terminal summary."""
    if books.uses:
        yield "services", [line for _, use in sorted(books.uses.items()) for line in _use_lines(use)]
    if books.missing:
        yield (
            "services that are missing",
            [
                f"{service}: {books.refused.get(service, 0)} tests skipped. {why}"
                for service, why in sorted(books.missing.items())
            ],
        )
    if books.leaks:
        yield "left behind", [f"{leak.test}: {leak.service}: {leak.what}" for leak in books.leaks]


def _use_lines(use: Use) -> list[str]:
    started = f", ready after {use.start_seconds:.2f} s" if use.start_seconds else ""
    return [
        f"{use.service}: {use.provider} {use.version} ({use.backend}{started})",
        *(f"    does not show {name}: {meaning}" for name, meaning in sorted(use.gaps.items())),
    ]
