"""docs/release: the index names every page and command, and the threat model names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pratique.cli.main import _RootGroup
from pratique.release import predicates
from pratique.release.signing.predicate import type_named

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[3]
PAGES = ROOT / "docs" / "release"


def test_the_index_leads_to_every_page() -> None:
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    assert not [page.name for page in PAGES.glob("*.md") if page.name != "README.md" and f"({page.name})" not in index]


def test_the_index_names_every_command_of_releases() -> None:
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    commands = [name for name, target in _RootGroup.targets.items() if target.extra == "release"]
    assert len(commands) > 15
    assert not [name for name in commands if f"`pratique {name}`" not in index]


def test_every_test_that_the_threat_model_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (PAGES / "threat-model.md").read_text(encoding="utf-8")))
    text = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 40
    assert not named - set(re.findall(r"def (test_\w+)\(", text))


def test_every_file_of_tests_that_a_page_names_exists() -> None:
    named = {
        name for page in PAGES.glob("*.md") for name in re.findall(r"`(tests/[\w/]+\.py)`", page.read_text("utf-8"))
    }
    assert named
    assert not [name for name in named if not (ROOT / name).is_file()]


def test_the_page_about_cosign_names_each_type_of_statement_as_it_is() -> None:
    page = (PAGES / "cosign.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|`]+ \| `([a-z-]+)` \| `([^`]+)`", page, flags=re.MULTILINE)
    cosigns_own = {
        "cyclonedx": predicates.SBOM,
        "vuln": predicates.VULNERABILITIES,
        "slsaprovenance1": predicates.PROVENANCE,
    }
    assert {short: cosigns_own.get(theirs, theirs) for short, theirs in rows} == {
        short: type_named(short) for short, _ in rows
    }
    assert len(rows) == 11
