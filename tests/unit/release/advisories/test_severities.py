"""Severities come from vectors, then words, then aliases; what is not understood stays unknown."""

from __future__ import annotations

import pytest
from tests.unit.release.advisories.osv_records import affected, record

from pratique.release.advisories.records import parse_record
from pratique.release.advisories.severity import Rated, Score, highest, rate, settle
from pratique.release.predicates import Severity

pytestmark = pytest.mark.unit

CRITICAL = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
LOW = "CVSS:3.0/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"


@pytest.mark.parametrize(
    ("kind", "score", "expected"),
    [
        ("CVSS_V2", "AV:L/AC:M/Au:N/C:N/I:P/A:C", "medium"),
        ("CVSS_V3", CRITICAL, "critical"),
        ("CVSS_V3", LOW, "low"),
        ("CVSS_V3", "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", "none"),
        ("CVSS_V4", "CVSS:4.0/AV:N/AC:L/AT:N/PR:H/UI:N/VC:L/VI:L/VA:N/SC:N/SI:N/SA:N", "medium"),
        ("Ubuntu", "negligible", "low"),
        ("CVSS_V3", "", "unknown"),
        ("CVSS_V3", "9.8", "unknown"),
        ("CVSS_V3", "CVSS:3.1/AV:N", "unknown"),
        ("CVSS_V2", CRITICAL, "unknown"),
        ("CVSS_V4", CRITICAL, "unknown"),
        ("CVSS_V5", "9.8", "unknown"),
    ],
)
def test_a_score_is_rated_or_unknown(kind: str, score: str, expected: Severity) -> None:
    assert rate([Score(kind, score)], []) == expected


def test_the_highest_score_counts_and_words_only_without_one() -> None:
    assert rate([Score("CVSS_V3", LOW), Score("CVSS_V3", CRITICAL)], ["low"]) == "critical"
    assert rate([Score("CVSS_V3", "broken")], ["MODERATE", "not yet assigned", ""]) == "medium"
    assert rate([], ["not yet assigned", "end-of-life"]) == "unknown"
    assert rate([], []) == highest([]) == "unknown"


def test_a_record_is_rated_by_all_places_that_records_have_for_it() -> None:
    def rated(**more: object) -> Severity:
        return parse_record(record("X-1", **more)).severity

    assert rated(severity=[{"type": "CVSS_V3", "score": LOW}]) == "low"
    assert rated(database_specific={"severity": "HIGH"}) == "high"
    assert rated(database_specific={"severity": 7}) == "unknown"
    inside = affected(severity=[{"type": "CVSS_V3", "score": CRITICAL}])
    assert parse_record(record("X-1", inside)).severity == "critical"
    assert parse_record(record("X-1", inside)).severity_from == "X-1"
    assert parse_record(record("X-1", affected(ecosystem_specific={"urgency": "unimportant"}))).severity == "low"
    assert parse_record(record("X-1", affected(database_specific={"severity": "LOW"}))).severity == "low"
    assert parse_record(record("X-1", affected())).severity_from == ""


def rated(identifier: str, severity: Severity = "unknown", *, aliases: str = "", upstream: str = "") -> Rated:
    return Rated(identifier, tuple(aliases.split()), tuple(upstream.split()), severity)


def test_severity_is_taken_from_aliases_over_several_steps_and_both_ways() -> None:
    found = settle(
        [
            rated("PYSEC-1", aliases="CVE-1"),
            rated("GHSA-1", "high", aliases="CVE-1 OSV-1"),
            rated("OSV-2", aliases="OSV-1"),
            rated("GHSA-2", "medium", aliases="CVE-1"),
            rated("PYSEC-2", aliases="CVE-2"),
        ]
    )
    assert found["PYSEC-1"] == found["OSV-2"] == found["GHSA-1"] == ("high", "GHSA-1")
    assert found["GHSA-2"] == ("medium", "GHSA-2")  # its own word first
    assert found["PYSEC-2"] == ("unknown", "")


def test_a_distributions_advisory_is_as_bad_as_the_worst_of_what_it_is_about() -> None:
    known = [rated("GHSA-1", "high", aliases="CVE-1"), rated("GHSA-2", "low", aliases="CVE-2")]
    assert settle([*known, rated("DSA-1-1", upstream="CVE-1 CVE-2")])["DSA-1-1"] == ("high", "GHSA-1")


def test_a_distributions_advisory_about_something_unknown_is_unknown() -> None:
    known = [rated("GHSA-2", "low", aliases="CVE-2")]
    assert settle([*known, rated("DSA-1-1", upstream="CVE-2 CVE-3")])["DSA-1-1"] == ("unknown", "")


def test_being_related_upstream_is_not_being_the_same() -> None:
    found = settle([rated("CVE-1"), rated("DSA-1-1", "low", upstream="CVE-1")])
    assert found["CVE-1"] == ("unknown", "")


def test_aliases_in_a_ring_and_a_record_twice_end() -> None:
    ring = [rated("A-1", aliases="A-2"), rated("A-2", aliases="A-3"), rated("A-3", "low", aliases="A-1 A-3")]
    assert {settle([*ring, *ring])[name] for name in ("A-1", "A-2", "A-3")} == {("low", "A-3")}
