"""Which versions an advisory concerns. What cannot be told is never taken for unaffected."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.release.advisories.osv_records import affected, events, record

from pratique.release.advisories.matching import Judgement, compact, judge, lookup_of, match
from pratique.release.advisories.records import Affected, parse_record
from pratique.release.advisories.versions import PYPI
from pratique.release.components import parse_purl

pytestmark = pytest.mark.unit


def package(*ranges: dict[str, Any], **more: Any) -> Affected:
    return parse_record(record("PYSEC-2024-1", affected(*ranges, **more))).affected[0]


def verdicts(about: Affected, *versions: str) -> list[str]:
    return [judge(about, version).verdict[:3] for version in versions]


GIT = {"type": "GIT", "repo": "https://example.org", "events": [{"introduced": "0"}, {"fixed": "abc"}]}


@pytest.mark.parametrize("version", ["not a version", "1.0-bulbasaur"])
@pytest.mark.parametrize("about", [package(events("introduced 5")), package(versions=["9.9"])])
def test_a_version_that_cannot_be_compared_is_undetermined(about: Affected, version: str) -> None:
    assert judge(about, version).verdict == "undetermined"


def test_a_version_without_order_that_is_listed_as_it_is_spelt_is_affected() -> None:
    assert verdicts(package(versions=["1.0-bulbasaur"]), "1.0-bulbasaur", "1.0") == ["aff", "una"]


@pytest.mark.parametrize(
    "about",
    [
        package(events("introduced 0", "fixed next-tuesday")),
        package({"type": "ECOSYSTEM", "events": []}),
        package(events("introduced 0", "limit ?")),
        package(GIT),
        package(),
        package({"type": "ECOSYSTEM", "events": []}, ecosystem="Debian:12"),
    ],
)
def test_a_range_that_cannot_be_compared_is_undetermined(about: Affected) -> None:
    assert judge(about, "1.0").verdict == "undetermined"


def test_a_range_that_cannot_be_compared_does_not_hide_one_that_can() -> None:
    about = package(events("introduced 0", "fixed ?"), events("introduced 1", "fixed 2"))
    assert judge(about, "1.5") == Judgement("affected", ("2",))
    assert judge(about, "2.0") == Judgement("undetermined", ("?",))


def test_an_ecosystem_whose_order_is_not_known_is_undetermined_unless_listed() -> None:
    about = package(events("introduced 0"), ecosystem="crates.io", versions=["1.0.0"])
    assert verdicts(about, "1.0.0", "2.0.0") == ["aff", "und"]
    assert compact(about) == about


def test_versions_lie_between_introduced_and_fixed() -> None:
    about = package(events("introduced 1.0", "fixed 1.2", "introduced 2.0", "fixed 2.1"))
    assert verdicts(about, "0.9", "1.0", "1.1.9", "1.2", "1.9", "2.0", "2.1", "3") == [
        *("una", "aff", "aff", "una"),
        *("una", "aff", "una", "una"),
    ]
    assert judge(about, "1.1").fixed_in == ("1.2",)


def test_the_order_of_events_in_the_record_does_not_matter() -> None:
    about = package(events("fixed 5.8.6", "introduced 5.0", "fixed 4.8.11", "introduced 4.0"))
    assert verdicts(about, "4.8.10", "4.8.11", "5.0", "5.8.6") == ["aff", "una", "aff", "una"]


def test_a_version_fixed_and_introduced_anew_is_affected() -> None:
    # So written in PYSEC-2022-236 and others, whose lists of versions say the same.
    about = package(events("introduced 0", "fixed 3.1.1", "introduced 3.1.1", "fixed 3.1.3"))
    assert verdicts(about, "3.1.1", "3.1.3") == ["aff", "una"]


def test_the_last_affected_version_is_affected_and_so_are_its_rebuilds() -> None:
    about = package(events("introduced 1.11.0", "last_affected 1.11.0"))
    assert verdicts(about, "1.10", "1.11.0", "1.11.0+cpu", "1.11.1") == ["una", "aff", "aff", "una"]
    debian = package(events("introduced 0", "last_affected 1.2-3"), ecosystem="Debian:12")
    assert verdicts(debian, "1.2-3+b2", "1.2-3+deb12u1") == ["aff", "una"]


def test_introduced_0_is_before_everything() -> None:
    about = package(events("introduced 0", "fixed 1"), ecosystem="Debian:12")
    assert verdicts(about, "0~~", "0", "1") == ["aff", "aff", "una"]


def test_limits_bound_a_range_unless_one_is_infinite() -> None:
    assert verdicts(package(events("introduced 0", "limit 2", "limit 3")), "2.5", "3") == ["aff", "una"]
    assert verdicts(package(events("introduced 0", "limit 2", "limit *")), "2.5", "3") == ["aff", "aff"]


def test_a_listed_version_is_affected_in_any_spelling_and_whatever_ranges_say() -> None:
    about = package(events("introduced 5"), versions=["1.0"])
    assert verdicts(about, "1.0.0", "v1.0", "1.0+local", "1.1") == ["aff", "aff", "aff", "una"]


def test_commits_beside_a_list_leave_the_list_to_decide() -> None:
    about = package(GIT, versions=["1.0"])
    assert verdicts(about, "1.0", "1.1") == ["aff", "una"]
    assert compact(about) == about


def test_fixes_of_all_ranges_that_hold_the_version_are_told_once() -> None:
    about = package(
        events("introduced 0", "fixed 3"), events("introduced 1", "fixed 2"), events("introduced 0", "fixed 2")
    )
    assert judge(about, "1.5").fixed_in == ("3", "2")


STEPS = st.lists(
    st.tuples(st.sampled_from(["introduced", "fixed", "limit"]), st.sampled_from(["0", "1", "1.5", "2", "?", "1.0+x"])),
    max_size=5,
)
LISTED = st.lists(st.sampled_from(["0.5", "1", "1.5", "2", "odd one", "1.0.0"]), max_size=4)


@settings(max_examples=50)
@given(STEPS, LISTED, st.sampled_from(["0.5", "1.0", "1.5+x", "2", "3", "odd one", "other"]))
def test_what_is_left_out_in_the_database_changes_no_verdict(
    steps: list[tuple[str, str]], listed: list[str], version: str
) -> None:
    about = package({"type": "ECOSYSTEM", "events": [dict([step]) for step in steps]}, GIT, versions=listed)
    assert judge(compact(about), version).verdict == judge(about, version).verdict


@settings(max_examples=50)
@given(st.integers(0, 2**32))
def test_no_enumerated_version_is_missed(seed: int) -> None:
    """The other way round: from versions and the spans that are affected, make the ranges a database would write."""
    dice = random.Random(seed)  # noqa: S311 - made-up data
    versions = sorted(
        {f"{dice.randrange(3)}.{dice.randrange(5)}{dice.choice(['', 'rc1', '.post1'])}" for _ in range(20)},
        key=PYPI.key,
    )
    is_bad = [dice.random() < 0.5 for _ in versions]
    steps = []
    for number, version in enumerate(versions):
        before = is_bad[number - 1] if number else False
        if is_bad[number] != before:
            steps.append({"introduced" if is_bad[number] else "fixed": version})
    dice.shuffle(steps)
    if not any(is_bad):
        return
    about = package({"type": "ECOSYSTEM", "events": steps})
    assert [judge(about, version).verdict == "affected" for version in versions] == is_bad


def test_withdrawn_advisories_and_other_packages_do_not_match() -> None:
    lookup = lookup_of(parse_purl("pkg:pypi/Left_Pad@1.0"))
    assert lookup is not None
    every = affected(events("introduced 0", "fixed 2"))
    advisories = [
        parse_record(record("PYSEC-2024-2", every)),
        parse_record(record("PYSEC-2024-1", every, affected(events("introduced 0", "fixed 3")))),
        parse_record(record("PYSEC-2024-3", every, withdrawn="2024-06-01T00:00:00Z")),
        parse_record(record("PYSEC-2024-4", affected(events("introduced 0"), name="right-pad"))),
        parse_record(record("PYSEC-2024-5", affected(events("introduced 0"), ecosystem="Debian:12"))),
        parse_record(record("PYSEC-2024-6", affected(events("introduced 2")))),
    ]
    found = match(lookup, advisories)
    assert [(one.advisory.id, one.judgement.fixed_in) for one in found] == [
        ("PYSEC-2024-1", ("2", "3")),
        ("PYSEC-2024-2", ("2",)),
    ]


@pytest.mark.parametrize(
    ("purl", "expected"),
    [
        ("pkg:pypi/Left_Pad@1.0", (("PyPI",), "left-pad", "1.0")),
        ("pkg:pypi/left-pad", None),
        ("pkg:npm/%40scope/left-pad@1.0.0", (("npm",), "@scope/left-pad", "1.0.0")),
        ("pkg:npm/left-pad", None),
        ("pkg:cargo/left-pad@1.0.0", None),
        ("pkg:deb/debian/openssl@3.0-1?distro=debian-12", (("Debian:12", "Debian"), "openssl", "3.0-1")),
        ("pkg:deb/debian/openssl@3.0-1?distro=debian-12.5", (("Debian:12", "Debian"), "openssl", "3.0-1")),
        ("pkg:deb/debian/openssl@3.0-1?distro=debian-11", (("Debian:11", "Debian"), "openssl", "3.0-1")),
        ("pkg:deb/debian/openssl@3.0-1", None),
        ("pkg:deb/ubuntu/openssl@3.0-1?distro=ubuntu-22.04", None),
        ("pkg:deb/debian/openssl@3.0-1?distro=debian-", None),
        ("pkg:deb/debian/openssl?distro=debian-12", None),
        ("pkg:deb/debian/libc6@2.36?upstream=glibc&distro=debian-12", (("Debian:12", "Debian"), "glibc", "2.36")),
        (
            "pkg:deb/debian/libgcc-s1@12.2.0-14%2Bb1?upstream=gcc-12%4012.2.0-14&distro=debian-12",
            (("Debian:12", "Debian"), "gcc-12", "12.2.0-14"),
        ),
    ],
)
def test_components_are_looked_up_by_the_names_of_advisories(purl: str, expected: Any) -> None:
    found = lookup_of(parse_purl(purl))
    assert (found and (found.ecosystems, found.name, found.version)) == expected
