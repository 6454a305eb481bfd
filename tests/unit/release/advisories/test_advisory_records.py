"""Records of OSV are read strictly where it matters, and never lost."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.release.advisories.osv_records import affected, events, record

from pratique.release.advisories.errors import AdvisoryDataError
from pratique.release.advisories.records import MAX_RECORD_BYTES, parse_record

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b'{"id": "PYSEC-1"}',
        b'{"modified": "2024-01-01T00:00:00Z"}',
        record("no dash"),
        record("../etc-passwd"),
        record(schema_version="2.0.0"),
        record("X-1", {"package": {"ecosystem": "PyPI"}}),
        record("X-1", {"package": {"ecosystem": "", "name": "a"}}),
        record(aliases="CVE-1"),
        record("X-1", affected(versions=[1])),
        b"[" * 100_000,
        record(details="\x00").replace(b"\\u0000", b"\xff"),
        b" " * (MAX_RECORD_BYTES + 1),
    ],
    ids=repr,
)
def test_what_is_no_record_is_refused(content: bytes) -> None:
    with pytest.raises(AdvisoryDataError):
        parse_record(content)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"type": "ECOSYSTEM", "events": []}, "malformed"),
        ({"type": "ECOSYSTEM"}, "malformed"),
        ({"type": "MAGIC", "events": [{"introduced": "0"}]}, "malformed"),
        ({"type": "ECOSYSTEM", "events": [{"introduced": 0}]}, "malformed"),
        ({"type": "ECOSYSTEM", "events": [{"introduced": ""}]}, "malformed"),
        ({"type": "ECOSYSTEM", "events": [{"introduced": "0", "fixed": "1"}]}, "one member"),
        ({"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {}]}, "one member"),
        ({"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"mended": "1"}]}, "members mended"),
        (events("fixed 1"), "introduces"),
        (events("introduced 0", "fixed 2", "last_affected 1"), "not both"),
    ],
)
def test_a_range_that_breaks_the_rules_is_kept_with_its_problem(broken: dict[str, Any], why: str) -> None:
    advisory = parse_record(record("PYSEC-2024-1", affected(broken)))
    assert why in advisory.affected[0].ranges[0].problem


def test_a_record_has_what_decides() -> None:
    advisory = parse_record(
        record(
            "PYSEC-2024-1",
            affected(events("introduced 0", "fixed 1.2"), name="Left.Pad", versions=["1.0", "1.0", "1.1"]),
            {"ranges": [{"type": "GIT", "repo": "https://example.org", "events": [{"introduced": "0"}]}]},
            aliases=["CVE-2024-1", "CVE-2024-1"],
            upstream=None,
            details="A  bad\nthing. " * 100,
            published="2024-04-01T00:00:00Z",
            credits=[{"name": "nobody reads this"}],
        )
    )
    assert advisory.aliases == ("CVE-2024-1",)
    assert advisory.summary.startswith("A bad thing. A")
    assert len(advisory.summary) == 300
    (package,) = advisory.affected
    assert (package.ecosystem, package.name, package.versions) == ("PyPI", "left-pad", ("1.0", "1.1"))
    assert [(event.kind, event.version) for event in package.ranges[0].events] == [
        ("introduced", "0"),
        ("fixed", "1.2"),
    ]
    assert advisory.withdrawn is None
    assert advisory.published is not None


def test_times_that_are_none_are_left_out_and_withdraw_nothing() -> None:
    advisory = parse_record(record(modified="1-01-01T00:00:00Z", withdrawn="some day", published="2024-01-01"))
    assert (advisory.modified, advisory.withdrawn, advisory.published) == (None, None, None)


def test_members_that_are_null_are_as_if_left_out() -> None:
    null = dict.fromkeys(("ranges", "versions", "severity", "database_specific", "ecosystem_specific"))
    names = ("aliases", "severity", "summary", "details", "published", "withdrawn")
    one = {"package": {"ecosystem": "PyPI", "name": "a"}, **null}
    advisory = parse_record(record("X-1", one, **dict.fromkeys(names)))
    assert advisory.affected[0].ranges == ()
    assert parse_record(b'{"id": "X-1", "modified": "", "affected": null}').affected == ()


def test_names_of_debian_stay_as_they_are() -> None:
    advisory = parse_record(record("DSA-1-1", affected(name="libX.11_a", ecosystem="Debian:12")))
    assert advisory.affected[0].name == "libX.11_a"
