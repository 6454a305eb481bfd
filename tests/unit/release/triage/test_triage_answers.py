"""Triage: hostile and unknown input first, then who is affected, where, since when and how."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.release.triage.triage_parts import (
    NOW,
    REPOSITORY,
    advisories,
    entry,
    fill,
    purl,
    record,
    released,
    sbom,
    step,
)

from pratique.core.errors import CallerError
from pratique.release.errors import EvidenceError
from pratique.release.promotion.history import HistoryUnreadableError
from pratique.release.triage.answer import Answer
from pratique.release.triage.asking import UnknownAdvisoryError, ask
from pratique.release.triage.index import IndexUnavailableError, Inventory, TriageIndex
from pratique.release.triage.parts import read_parts
from pratique.release.triage.places import read_places
from pratique.release.triage.question import PackageRange, parse_question
from pratique.release.triage.sweep import sweep
from pratique.release.values import digest_of

pytestmark = pytest.mark.unit


@pytest.fixture
def index(tmp_path: Path) -> Iterator[TriageIndex]:
    with TriageIndex(tmp_path / "triage.db", may_make=True) as opened:
        yield opened


def asked(index: TriageIndex, text: str) -> Answer:
    return ask(parse_question(text), index, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "requests",
        "requests@",
        "@1",
        "requests@>1.0",
        "requests@<1.0,<2.0",
        "requests@<1.0,1.5",
        "requests@not a version",
        "requests@<!!",
        "pkg:golang/x@<1",
        "a b@<1",
    ],
)
def test_a_question_that_is_none_is_a_usage_error(text: str) -> None:
    with pytest.raises(CallerError):
        parse_question(text)


@pytest.mark.parametrize(
    ("text", "affected", "unaffected"),
    [
        ("requests@<2.0", "1.9", "2.0"),
        ("requests@<=2.0", "2.0", "2.0.1"),
        ("requests@>=1.5,<2.0", "1.5", "1.4"),
        ("requests@==1.0", "1.0", "1.1"),
        ("requests@1.0, 1.2", "1.2", "1.1"),
        ("pkg:pypi/Requests@>=2", "3", "1"),
        ("pypi/requests@*", "0.0.1", ""),
    ],
)
def test_a_range_holds_what_it_says(index: TriageIndex, text: str, affected: str, unaffected: str) -> None:
    bad = fill(index, "bad", sbom(purl("requests", affected)))
    if unaffected:
        fill(index, "good", sbom(purl("requests", unaffected)))
    assert asked(index, text).images == (bad,)


def test_names_are_read_as_their_ecosystem_spells_them() -> None:
    npm, deb = parse_question("npm/@scope/left@<2.0.0"), parse_question("pkg:deb/debian/openssl@<3.0.11-1")
    assert isinstance(npm, PackageRange)
    assert isinstance(deb, PackageRange)
    assert [(one.ecosystem, one.name) for one in npm.advisory.affected] == [("npm", "@scope/left")]
    assert [(one.ecosystem, one.name) for one in deb.advisory.affected] == [("Debian", "openssl")]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"bomFormat":"SPDX"}', b"[" * 5000])
def test_what_is_no_bill_of_materials_is_refused(content: bytes) -> None:
    with pytest.raises(EvidenceError):
        read_parts(content)


def test_dependencies_in_a_strange_form_are_refused() -> None:
    with pytest.raises(EvidenceError, match="dependencies"):
        read_parts(sbom(purl("a", "1")).replace(b'"dependencies":[]', b'"dependencies":7'))


def test_an_unknown_advisory_is_not_taken_for_harmless(index: TriageIndex, tmp_path: Path) -> None:
    fill(index, "one", sbom(purl("requests", "1.0")))
    with (
        advisories(tmp_path, record("PYSEC-2026-1", "requests", fixed="2.0")) as database,
        pytest.raises(UnknownAdvisoryError),
    ):
        ask("CVE-2026-9999", index, database)


def test_an_advisory_is_found_by_its_alias(index: TriageIndex, tmp_path: Path) -> None:
    image = fill(index, "one", sbom(purl("requests", "1.0")))
    with advisories(tmp_path, record("PYSEC-2026-1", "requests", fixed="2.0", aliases=["CVE-2026-1"])) as database:
        found = ask("CVE-2026-1", index, database)
    assert found.images == (image,)
    assert found.exit_code == 1
    assert found.components[0].fixed_in == ("2.0",)


@pytest.mark.parametrize(
    "component",
    [
        "pkg:pypi/requests@not-a-version",
        "pkg:pypi/requests",
        "pkg:deb/ubuntu/requests@1.0-1?distro=ubuntu-24.04",
    ],
)
def test_what_cannot_be_compared_counts_as_affected_and_is_said(index: TriageIndex, component: str) -> None:
    image = fill(index, "one", sbom(component))
    found = asked(index, "requests@<0.5")
    assert found.images == (image,)
    assert [one.verdict for one in found.components] == ["undetermined"]


@pytest.mark.parametrize(
    ("component", "ecosystem", "name"),
    [
        ("pkg:golang/github.com/a/b@1.0", "Go", "github.com/a/b"),
        ("pkg:maven/org.x/y@1.0", "Maven", "org.x:y"),
        ("pkg:cargo/time@1.0", "crates.io", "time"),
    ],
)
def test_ecosystems_that_are_not_compared_here_are_undetermined(
    index: TriageIndex, tmp_path: Path, component: str, ecosystem: str, name: str
) -> None:
    image = fill(index, "one", sbom(component))
    with advisories(tmp_path, record("MADE-1", name, fixed="0.1", ecosystem=ecosystem)) as database:
        found = ask("MADE-1", index, database)
        swept = sweep(index, database)
    assert found.images == (image,)
    assert found.components[0].verdict == "undetermined"
    assert [(one.advisory, one.is_undetermined, one.num_images) for one in swept] == [("MADE-1", True, 1)]


def test_a_running_image_of_unknown_content_keeps_the_answer_open(index: TriageIndex) -> None:
    fill(index, "known", sbom(purl("flask", "1.0")))
    index.put_places(read_places([released(0, digest_of(b"unknown"))]))
    found = asked(index, "requests@<2")
    assert [one.digest for one in found.unknown] == [digest_of(b"unknown")]
    assert found.exit_code == 3


def test_an_empty_index_answers_nothing(index: TriageIndex) -> None:
    assert asked(index, "requests@<2").exit_code == 3


def test_nothing_affected_is_told_of_a_known_index(index: TriageIndex) -> None:
    image = fill(index, "known", sbom(purl("flask", "1.0")))
    index.put_places(read_places([released(0, image)]))
    found = asked(index, "requests@<2")
    assert (found.images, found.exit_code, found.num_images_known) == ((), 0, 1)


def test_where_since_when_and_how_of_what_runs(index: TriageIndex) -> None:
    app, lib = purl("app", "1.0"), purl("requests", "1.0")
    document = sbom(app, lib, needs={app: [lib]}, places={lib: ("sha256:base", "/usr/lib/requests")})
    image = digest_of(b"one")
    parts = read_parts(document, base_layers=frozenset({"sha256:base"}))
    assert index.add(Inventory(image, REPOSITORY, digest_of(document), parts))
    index.put_places(read_places([released(1, image), released(2, image, environment="staging")]))
    (running,) = asked(index, "requests@<2").running
    assert [(one.environment, one.role) for one in running.places] == [("production", "stable"), ("staging", "stable")]
    assert running.places[0].since == NOW.replace(hour=1)
    (reached,) = running.reached
    assert (reached.layer, reached.location, reached.is_base) == ("sha256:base", "/usr/lib/requests", True)
    assert reached.chain == ("app@1.0", "requests@1.0")


def test_dependencies_in_a_circle_end_and_long_chains_are_cut() -> None:
    names = [purl(f"p{number}", "1") for number in range(30)]
    needs = dict(zip(names, [[one] for one in names[1:]], strict=False)) | {names[-1]: [names[1]]}
    chains = {one.purl: one.reach.chain for one in read_parts(sbom(*names, needs=needs))}
    assert chains[names[1]] == ("p0@1", "p1@1")
    assert len(chains[names[-1]]) == 13
    assert "…" in chains[names[-1]]


def test_adding_twice_changes_nothing_and_a_second_bill_adds(index: TriageIndex) -> None:
    document, more = sbom(purl("requests", "1.0")), sbom(purl("flask", "1.0"))
    image = fill(index, "one", document)
    inventory = Inventory(image, REPOSITORY, digest_of(b"one" + document), read_parts(document))
    assert not index.add(inventory)
    assert fill(index, "one", more) == image
    assert asked(index, "requests@*").images == asked(index, "flask@*").images == (image,)
    assert index.num_images() == 1


def test_a_rollback_and_a_canary_move_what_runs() -> None:
    old, new = digest_of(b"old"), digest_of(b"new")
    canary = read_places([released(0, old), step(1, new, "started")])
    assert [(one.digest, one.role) for one in canary] == [(old, "stable"), (new, "canary")]
    aborted = read_places([released(0, old), step(1, new, "started"), step(2, new, "aborted")])
    assert [one.digest for one in aborted] == [old]
    failed = read_places([released(0, old), step(1, new, "started"), step(2, new, "failed")])
    assert {one.digest for one in failed} == {old, new}
    back = read_places([released(0, old), released(1, new), released(2, old, kind="rollback")])
    assert [one.digest for one in back] == [old]


def test_an_entry_that_cannot_be_read_leaves_nothing_half_known() -> None:
    with pytest.raises(HistoryUnreadableError):
        read_places([entry(0, "promotion", digest_of(b"x"), {"strange": 1})])


def test_withdrawn_advisories_concern_nothing(index: TriageIndex, tmp_path: Path) -> None:
    fill(index, "one", sbom(purl("requests", "1.0")))
    gone = record("PYSEC-2026-1", "requests", fixed="2.0", withdrawn="2026-01-01T00:00:00Z")
    with advisories(tmp_path, gone) as database:
        assert ask("PYSEC-2026-1", index, database).images == ()


def test_the_whole_set_finds_what_single_questions_find(index: TriageIndex, tmp_path: Path) -> None:
    fill(index, "one", sbom(purl("requests", "1.0"), purl("requests", "1.5")))
    fill(index, "two", sbom(purl("requests", "1.0"), purl("flask", "9")))
    records = record("PYSEC-2026-1", "requests", fixed="2.0"), record("PYSEC-2026-2", "flask", fixed="2.0")
    with advisories(tmp_path, *records) as database:
        (found,) = sweep(index, database)
        assert len(ask("PYSEC-2026-1", index, database).images) == found.num_images == 2
    assert found.components == (purl("requests", "1.0"), purl("requests", "1.5"))


@pytest.mark.parametrize("num_versions", [1, 3, 1200])
def test_an_image_is_listed_once_and_the_first_where_there_are_more(index: TriageIndex, num_versions: int) -> None:
    """More versions than one statement has variables, too; one image has them all."""
    versions = [purl("requests", f"1.{number}") for number in range(num_versions)]
    images = {fill(index, "all", sbom(*versions)), fill(index, "first", sbom(versions[0]))}
    images |= {fill(index, "last", sbom(versions[-1]))}
    question = parse_question("requests@<2.0")
    for limit in (None, 3, 4):
        found = ask(question, index, None, max_images=limit)
        assert (sorted(found.images), found.num_images) == (sorted(images), 3)
    for limit in (0, 1, 2):
        found = ask(question, index, None, max_images=limit)
        assert len(set(found.images) & images) == len(found.images) == limit
        assert found.num_images == 3


def test_no_index_an_old_index_and_a_damaged_index_are_said(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    with pytest.raises(IndexUnavailableError, match="there is no"):
        TriageIndex(file)
    file.write_bytes(b"no database at all" * 100)
    with pytest.raises(IndexUnavailableError, match="no usable"):
        TriageIndex(file)
    file.write_bytes(b"")
    with pytest.raises(IndexUnavailableError, match="version"):
        TriageIndex(file)
