"""The registry's client: pages, and servers that answer wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pratique.testkit.errors import ServiceMissingError, UnexpectedAnswerError
from pratique.testkit.services import registry, registryclient
from pratique.testkit.services.http import Answered
from pratique.testkit.services.registry import RegistryService, foreign_repositories
from pratique.testkit.services.registryclient import RegistryClient, next_page

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("", ""),
        ('</v2/_catalog?last=b&n=2>; rel="next"', "/v2/_catalog?last=b&n=2"),
        ("</v2/_catalog?last=b>; rel=next", "/v2/_catalog?last=b"),
        ('</v2/_catalog?last=b>; rel="prev"', ""),
        ("nonsense", ""),
    ],
)
def test_the_next_page_is_where_the_link_says(link: str, expected: str) -> None:
    assert next_page(link) == expected


def test_a_server_that_leads_in_circles_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    circle = {"link": '</v2/_catalog?n=1>; rel="next"'}
    monkeypatch.setattr(registryclient, "_PAGES", 3)
    monkeypatch.setattr(
        registryclient,
        "ask",
        lambda *_, **__: Answered(asked="", status=200, headers=circle, body=b'{"repositories":["a"]}'),
    )
    assert RegistryClient("http://x").repositories() == ["a", "a", "a"]


def test_an_upload_that_leads_nowhere_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registryclient, "ask", lambda *_, **__: Answered(asked="POST x", status=202))
    with pytest.raises(UnexpectedAnswerError, match="expected a Location"):
        RegistryClient("http://x").push_blob("a", b"")


def test_only_repositories_below_a_prefix_of_the_kit_are_its_own() -> None:
    names = [
        "pqab12cdn1/app",
        "pq123456n2/a/b",
        "app",
        "pqapp/service",
        "pqab12cdn1",
        "pq-x/app",
        "PQ1n1/app",
        "xpq1/app",
        "team/pq1n1/app",
    ]
    assert foreign_repositories(names) == names[2:]


def test_a_machine_without_the_program_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    debian = RegistryService().providers[0]
    with pytest.raises(ServiceMissingError, match="apt-get install docker-registry"):
        debian.find()


@pytest.mark.parametrize("script", ["exit 1", "true", "printf '\\377'", None])
def test_a_program_that_fails_or_says_nothing_is_no_registry(script: str | None, tmp_path: Path) -> None:
    program = tmp_path / "docker-registry"
    if script is not None:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    with pytest.raises(ServiceMissingError, match="does not say its version"):
        registry._version_of(program)
