"""What the plugin says: who provides what, what is missing, what was left behind, what stands beside a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import pytest

from pratique.testkit.errors import ServiceMissingError
from pratique.testkit.fixtures import Launcher
from pratique.testkit.services.choice import AUTO, is_url, without_password
from pratique.testkit.services.interface import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pratique.testkit.host.launch import Running, Statuses
    from pratique.testkit.kit import Books, Kit, Use
    from pratique.testkit.services.interface import Provider

__all__ = [
    "Reporting",
    "failure_sections",
    "header_lines",
    "refuse_gaps",
    "started_lines",
    "summary",
    "wanted_lines",
]

_TAIL_LINES = 20


@runtime_checkable
class Reporting(Protocol):
    """A namespace that has more to say about a failure than its server's log."""

    def report(self) -> list[tuple[str, str]]:
        """Return sections: title and text."""


def header_lines(back_ends: Mapping[str, str]) -> list[str]:
    """Return a line with the back ends that were asked for. Looks for nothing: a run may need none of them."""
    asked = [
        f"{name} at {without_password(words)}" if is_url(words) else f"{name} by {words}"
        for name, words in back_ends.items()
        if words != AUTO
    ]
    return [f"pratique: asked for: {', '.join(asked)}"] if asked else []


def wanted_lines(kit: Kit, wanted: Iterable[tuple[str, str | None]], status: Statuses | None) -> list[str]:
    """Return what the collected tests need, and how it stands with each; `status` is None where no host runs."""
    return [f"pratique: {_wanted(kit, name, use, status)}" for name, use in wanted]


def _wanted(kit: Kit, name: str, use: str | None, status: Statuses | None) -> str:
    given = kit.given(name, use)
    if given is not None:
        who, gaps = (f" is {given.provider.name}", _gaps(given.provider)) if given.provider else ("", "")
        return f"{name}{who} at {without_password(given.url)}{gaps}"
    try:
        chosen = kit.choose(name, use)
    except ServiceMissingError:
        return f"{name} is not here: its tests {'fail' if kit.options.is_required else 'are skipped'}"
    asked = kit.asked_for(name, use)
    if status is not None and asked.label in status.labels.get(asked.key, ()):
        return _standing(name, chosen.provider, chosen.found.version, _find(status, asked.key))
    return _line(name, chosen.provider, chosen.found.version, "starts with the first test that asks")


def started_lines(kit: Kit, status: Statuses) -> list[str]:
    """Return how it stands with each service that the host was asked for, by whomever."""
    lines = []
    for key, labels in status.labels.items():
        for label in labels:
            name, _, provider_name = label.partition("/")
            known = kit.services[name].providers if name in kit.services else ()
            for provider in known:
                if provider.name == provider_name:
                    standing = _standing(name, provider, _version_of(provider), _find(status, key))
                    lines.append(f"pratique: {standing}")
    return lines


def _version_of(provider: Provider) -> str:
    try:
        return provider.find().version
    except ServiceMissingError:  # removed meanwhile
        return ""


def _find(status: Statuses, key: str) -> Running | None:
    return next((running for running in status.servers if running.key == key), None)


def _standing(name: str, provider: Provider, version: str, running: Running | None) -> str:
    return _line(name, provider, version, f"ready after {running.start_seconds:.2f} s" if running else "starting")


def _line(name: str, provider: Provider, version: str, standing: str) -> str:
    who = f"{provider.name} {version}".rstrip()
    return f"{name} is {who} ({provider.backend}), {standing}{_gaps(provider)}"


def _gaps(provider: Provider) -> str:
    return f"; does not show: {', '.join(sorted(provider.gaps))}" if provider.gaps else ""


def refuse_gaps(kit: Kit, needed: Sequence[str], behind: Iterable[tuple[str, str | None]]) -> None:
    """Skip (or fail, where services are required) a test whose back end lacks what it needs.

    A need is looked up in every service of the test that knows the word. A server by URL of which nobody said what it
    is may show it: the test runs, and the summary says so.
    """
    servers = list(dict.fromkeys(behind))
    for need in needed:
        knowing = [(name, use) for name, use in servers if need in kit.service(name).capabilities]
        if not knowing:
            known = sorted({word for name, _ in servers for word in kit.service(name).capabilities})
            pytest.fail(f"needs({need!r}): no service of this test knows it. Known: {', '.join(known)}.", pytrace=False)
        for name, use in knowing:
            try:
                provider = kit.provider(name, use)
            except ServiceMissingError:
                continue  # the fixture will say so
            if provider is None:
                kit.note_unproven(name, use)
            elif need in provider.gaps:
                _refuse(kit, f"needs({need!r}): {provider.name} lacks it: {provider.gaps[need]}")


def _refuse(kit: Kit, reason: str) -> None:
    if kit.options.is_required:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def failure_sections(kit: Kit, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what stands below a failed test: what its namespaces say, and what each server logged meanwhile."""
    sections: dict[tuple[str, str], None] = {}
    servers: dict[str, list[Endpoint]] = {}
    for value in values.values():
        endpoints = _endpoints_of(value)
        if endpoints:
            sections |= dict.fromkeys(section for section in _said_by(value) if section[1])
        for endpoint in endpoints:
            servers.setdefault(endpoint.connection.key, []).append(endpoint)
    logs = [(_log_title(endpoints), kit.tail_of(endpoints[0], _TAIL_LINES)) for endpoints in servers.values()]
    return [*sections, *(section for section in logs if section[1])]


def _log_title(endpoints: Sequence[Endpoint]) -> str:
    services = ", ".join(dict.fromkeys(endpoint.service for endpoint in endpoints))
    first = endpoints[0]
    return f"{services} ({first.provider} {first.version}): logged since this test began"


def _endpoints_of(value: object) -> list[Endpoint]:
    if isinstance(value, Launcher):
        return [server.endpoint for server in value.servers]
    try:
        endpoint = value if isinstance(value, Endpoint) else getattr(value, "endpoint", None)
        return [endpoint] if isinstance(endpoint, Endpoint) else []
    except Exception:  # noqa: BLE001 - any fixture's value: a lazy proxy raises what it likes
        return []


def _said_by(value: object) -> list[tuple[str, str]]:
    if not isinstance(value, Reporting):
        return []
    try:
        return value.report()
    except Exception as error:  # noqa: BLE001 - the test's own failure has to be told all the same
        return [(f"report of {type(value).__name__}", f"failed with {type(error).__name__}: {error}")]


def summary(books: Books, *, is_quiet: bool, is_required: bool = False) -> Iterable[tuple[str, list[str]]]:
    """Return the sections of the terminal summary; a quiet one has only what should not be."""
    became = "failed" if is_required else "skipped"
    if books.uses and not is_quiet:
        yield "services", [line for _, use in sorted(books.uses.items()) for line in _use_lines(use)]
    if books.missing:
        yield (
            "services that are not here",
            [
                f"{service}: {_count(books.refused.get(service, 0), 'test')} {became}. {why}"
                for service, why in sorted(books.missing.items())
            ],
        )
    if books.unproven:
        yield "needs that were not checked", [_unproven_line(*one) for one in sorted(books.unproven.items())]
    if books.deaths:
        yield "services that died", books.deaths
    if books.leaks:
        yield "left behind", [f"{leak.test}: {leak.service}: {leak.what}" for leak in books.leaks]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _unproven_line(service: str, url: str) -> str:
    flag = f"--pratique-{service.replace('_', '-')}=PROVIDER+URL"
    return f"{service} at {url}: nothing is known of what it shows and what it does not. Say what it is: {flag}"


def _use_lines(use: Use) -> list[str]:
    started = f", ready after {use.start_seconds:.2f} s" if use.start_seconds else ""
    version = f" {use.version}" if use.version else ""
    return [
        f"{use.service}: {use.provider}{version} ({use.backend}{started})",
        *(f"    does not show {name}: {meaning}" for name, meaning in sorted(use.gaps.items())),
    ]
