"""Dependency diffs name what changed, and a review accepts nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.release.evidence.images_made import bom, make_image, pypi, sbom_of

from pratique.release.components import read_components
from pratique.release.errors import EvidenceError
from pratique.release.evidence.diff import DiffCollector, compare, normal_licence, review_of
from pratique.release.predicates import DEPENDENCY_DIFF, SBOM, Change, DependencyDiff
from pratique.release.statements import make_statement
from pratique.release.values import Digest

pytestmark = pytest.mark.unit

BASELINE = Digest("sha256:" + "2" * 64)
IMAGE = Digest("sha256:" + "1" * 64)


def changes(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[Change]:
    old, new = (read_components(json.dumps(bom(*one)).encode()) for one in (before, after))
    return list(compare(old, new))


def test_new_removed_changed_and_relicensed_components_are_told_in_order() -> None:
    found = changes(
        [pypi("same", "1", "MIT"), pypi("gone", "1", "MIT"), pypi("up", "1", "MIT"), pypi("law", "1", "MIT")],
        [pypi("same", "1", "MIT"), pypi("new", "2", "0BSD"), pypi("up", "2", "MIT"), pypi("law", "1", "GPL-3.0-only")],
    )
    assert found == [
        Change(package="pkg:pypi/gone", before="1", after=None, licences_before=("MIT",)),
        Change(
            package="pkg:pypi/law",
            before="1",
            after="1",
            licences_before=("MIT",),
            licences_after=("GPL-3.0-only",),
        ),
        Change(package="pkg:pypi/new", before=None, after="2", licences_after=("0BSD",)),
        Change(package="pkg:pypi/up", before="1", after="2", licences_before=("MIT",), licences_after=("MIT",)),
    ]


def test_another_spelling_of_a_licence_is_no_change() -> None:
    assert not changes([pypi("a", "1", "MIT OR Apache-2.0")], [pypi("a", "1", "(apache-2.0  or mit)")])
    assert normal_licence("MIT and (MIT)") == "MIT"


@pytest.mark.parametrize("text", ["Custom Licence", "MIT OR", "A" * 3000, ""])
def test_what_is_no_expression_stays_as_it_is(text: str) -> None:
    assert normal_licence(f" {text} ") == text


def test_several_versions_of_one_package_are_compared_together() -> None:
    (one,) = changes([pypi("a", "1")], [pypi("a", "1"), pypi("a", "2")])
    assert (one.before, one.after) == ("1", "1, 2")


def test_a_diff_names_the_bills_that_it_compared(tmp_path: Path) -> None:
    image = make_image(tmp_path)
    own = sbom_of(image.subject.digest, pypi("a", "2"))
    old = sbom_of(BASELINE, pypi("a", "1"))
    content = DiffCollector(own, BASELINE, old).collect(image).content
    assert isinstance(content, DependencyDiff)
    assert (content.baseline, content.baseline_sbom, content.sbom) == (BASELINE, old.digest, own.digest)
    assert [one.package for one in content.changes] == ["pkg:pypi/a"]


def test_where_nothing_is_in_production_everything_is_new(tmp_path: Path) -> None:
    image = make_image(tmp_path)
    content = DiffCollector(sbom_of(image.subject.digest, pypi("a", "2")), None, None).collect(image).content
    assert isinstance(content, DependencyDiff)
    assert content.baseline is None
    assert [one.before for one in content.changes] == [None]


def test_a_baseline_without_its_own_bill_is_refused(tmp_path: Path) -> None:
    image = make_image(tmp_path)
    own = sbom_of(image.subject.digest, pypi("a", "2"))
    for wrong in (None, sbom_of(IMAGE, pypi("a", "1")), make_statement(BASELINE, DEPENDENCY_DIFF, {})):
        with pytest.raises(EvidenceError, match="expected the bill of materials of the baseline"):
            DiffCollector(own, BASELINE, wrong).collect(image)
    with pytest.raises(EvidenceError, match="bill of materials is about"):
        DiffCollector(sbom_of(IMAGE, pypi("a", "1")), None, None).collect(image)


def diff_statement() -> Any:
    change = Change(package="pkg:pypi/a", before=None, after="1")
    content = DependencyDiff(baseline=None, sbom=BASELINE, changes=(change,))
    return make_statement(IMAGE, DEPENDENCY_DIFF, content)


def test_a_review_names_the_diff_and_what_it_accepts() -> None:
    statement = diff_statement()
    review = review_of(statement, ("pkg:pypi/a", "pkg:pypi/a"), "read it")
    assert (review.diff, review.accepted) == (statement.digest, ("pkg:pypi/a",))


def test_a_review_accepts_nothing_that_is_not_there_or_for_no_reason() -> None:
    with pytest.raises(EvidenceError, match="no change of pkg:pypi/b"):
        review_of(diff_statement(), ("pkg:pypi/b",), "read it")
    with pytest.raises(EvidenceError, match="needs a reason"):
        review_of(diff_statement(), ("pkg:pypi/a",), " ")
    with pytest.raises(EvidenceError, match="expected a dependency diff"):
        review_of(make_statement(IMAGE, SBOM, {}), (), "x")
