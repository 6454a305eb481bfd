"""A change of the approved file: each rule, refused, undecided and noted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from tests.unit.release.mirror.approved_text import OTHER, SHA, WHEEL, document, package

from pratique.release.advisories.matching import Judgement, Match
from pratique.release.advisories.records import Advisory
from pratique.release.errors import EvidenceError
from pratique.release.mirror.approved import Approved, parse_approved
from pratique.release.mirror.facts import Facts, FileFacts, ProjectFacts, parse_facts
from pratique.release.mirror.judging import Known, judge_change, new_files
from pratique.release.mirror.licences import licence_fault, same_licence
from pratique.release.mirror.settings import MirrorSettings

pytestmark = pytest.mark.unit

NOW = datetime(2024, 6, 1, tzinfo=UTC)
OLD = datetime(2024, 1, 1, tzinfo=UTC)


def file_facts(**changes: Any) -> FileFacts:
    plain: dict[str, Any] = {"sha256": SHA, "uploaded_at": OLD, "has_provenance": True}
    return FileFacts(**(plain | changes))


def project(file: FileFacts | None = None, **changes: Any) -> ProjectFacts:
    plain: dict[str, Any] = {
        "files": {WHEEL: file or file_facts()},
        "first_uploaded_at": OLD,
        "num_versions": 9,
        "licences": {"1.0": "MIT"},
    }
    return ProjectFacts(**(plain | changes))


def known(facts: dict[str, ProjectFacts | None] | None = None, **changes: Any) -> Known:
    plain: dict[str, Any] = {
        "facts": Facts(projects={"alpha": project()} if facts is None else facts),
        "advisories": lambda _name, _version: (),
        "names": frozenset(),
        "now": NOW,
        "settings": MirrorSettings(),
    }
    return Known(**(plain | changes))


def judged(after: str, by: Known, before: Approved | None = None) -> list[tuple[str, str]]:
    found = judge_change(before or Approved(), parse_approved(after), by)
    assert all(one.message for one in found)
    return [(one.level, one.rule) for one in found]


def match(severity: str, verdict: str = "affected") -> Match:
    advisory = Advisory("PYSEC-1", None, None, None, (), (), "a hole", severity, "", ())  # type: ignore[arg-type]  # a word of the test's
    return Match(advisory, Judgement(verdict))  # type: ignore[arg-type]  # likewise


def test_nothing_is_against_a_good_release() -> None:
    assert judged(document(package()), known()) == []


def test_nothing_new_needs_no_facts() -> None:
    before = parse_approved(document(package()))
    assert judged(document(package()), known({}, advisories=lambda _n, _v: None), before) == []
    assert not new_files(before, before)


@pytest.mark.parametrize(
    ("facts", "finding"),
    [
        ({}, ("undecided", "exists")),
        ({"alpha": None}, ("refused", "exists")),
        ({"alpha": project(files={})}, ("refused", "exists")),
        ({"alpha": project(file_facts(sha256=OTHER))}, ("refused", "hash")),
        ({"alpha": project(file_facts(sha256=""))}, ("refused", "hash")),
        ({"alpha": project(file_facts(yanked=""))}, ("refused", "yanked")),
        ({"alpha": project(file_facts(uploaded_at=NOW - timedelta(days=6)))}, ("refused", "age")),
        ({"alpha": project(file_facts(uploaded_at=NOW + timedelta(days=6)))}, ("refused", "age")),
        ({"alpha": project(file_facts(uploaded_at=None))}, ("undecided", "age")),
        ({"alpha": project(file_facts(has_provenance=False))}, ("note", "maintainers")),
        ({"alpha": project(first_uploaded_at=NOW - timedelta(days=80))}, ("note", "maintainers")),
        ({"alpha": project(licences={"1.0": "GPL-3.0-only"})}, ("refused", "licence")),
        ({"alpha": project(licences={"1.0": "BSD"})}, ("note", "licence")),
    ],
)
def test_what_is_known_about_a_file_decides(facts: dict[str, ProjectFacts | None], finding: tuple[str, str]) -> None:
    found = judged(document(package()), known(facts))
    assert finding in found
    assert len([one for one in found if one[0] != "note"]) == (finding[0] != "note")


@pytest.mark.parametrize(
    ("severity", "level"),
    [("critical", "refused"), ("high", "refused"), ("unknown", "refused"), ("medium", "note"), ("low", "note")],
)
def test_vulnerabilities_block_by_severity_and_unknown_ones_too(severity: str, level: str) -> None:
    found = judged(document(package()), known(advisories=lambda _n, _v: (match(severity),)))
    assert found == [(level, "vulnerable")]


def test_without_advisories_nothing_is_decided() -> None:
    found = judged(document(package()), known(advisories=lambda _n, _v: None))
    assert found == [("undecided", "vulnerable")]


def test_a_release_that_changed_is_refused_whatever_the_index_says() -> None:
    before = parse_approved(document(package(sha=OTHER)))
    assert judged(document(package()), known(), before) == [("refused", "hash")]


def test_an_approval_of_tomorrow_is_refused() -> None:
    assert judged(document(package(approved_on="2024-06-09")), known()) == [("refused", "approval")]


@pytest.mark.parametrize(
    ("names", "locks"), [('popular = ["alphaa"]', ()), ('private = ["alphas"]', ()), ("", ("alhpa",))]
)
def test_a_name_like_a_known_one_is_refused_until_somebody_says_that_it_is_meant(
    names: str, locks: tuple[str, ...]
) -> None:
    by = known(names=frozenset(locks))
    assert judged(document(package(), names=names), by) == [("refused", "typosquat")]
    like = '["alphaa", "alphas", "alhpa"]'
    assert judged(document(package(similar_to=like), names=names), by) == []
    assert judged(document(package(), names=names), by, parse_approved(document(package(version="0.9")))) == [
        ("note", "removed")
    ]


def test_a_name_of_ours_needs_no_upstream_and_is_told_where_somebody_has_it() -> None:
    names = 'private = ["alpha"]\npopular = ["alphaa"]'
    assert judged(document(package(), names=names), known({})) == [("note", "licence")]
    assert ("note", "exists") in judged(document(package(), names=names), known())


def test_giving_up_a_name_of_ours_is_refused() -> None:
    before = parse_approved(document(names='private = ["acme-*"]'))
    assert judged(document(), known(), before) == [("refused", "removed")]


def test_what_is_no_longer_served_is_noted() -> None:
    assert judged(document(), known(), parse_approved(document(package()))) == [("note", "removed")]


def test_another_licence_for_an_old_approval_is_judged_too() -> None:
    before = parse_approved(document(package()))
    assert judged(document(package(licence='"GPL-3.0-only"')), known(), before) == [("refused", "licence")]


@pytest.mark.parametrize(
    ("expression", "is_allowed"),
    [
        ("MIT", True),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("(GPL-3.0-only OR ISC) AND MIT", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("GPL-3.0-only", False),
        ("whatever", False),
        ("", False),
        ("MIT OR", False),
        ("MIT " * 600, False),
    ],
)
def test_licences_are_allowed_by_their_expression(expression: str, is_allowed: bool) -> None:
    fault = licence_fault(expression, ("MIT", "ISC", "Apache-2.0"))
    assert (fault is None) is is_allowed


def test_an_exception_can_be_listed_by_itself() -> None:
    expression = "GPL-2.0-only WITH Classpath-exception-2.0"
    assert licence_fault(expression, (expression,)) is None


def test_licences_are_the_same_by_what_they_mean() -> None:
    assert same_licence("MIT OR ISC", "ISC or MIT") is True
    assert same_licence("MIT", "ISC") is False
    assert same_licence("MIT", "The MIT License, more or less") is None


def test_facts_are_read_strictly() -> None:
    body = msgspec.json.encode(Facts(projects={"alpha": project(), "gone": None}))
    assert parse_facts(body).projects["gone"] is None
    for bad in (b"", b"[]", b'{"project": {}}', b'{"schema_version": 2}', b"\xff"):
        with pytest.raises(EvidenceError):
            parse_facts(bad)
