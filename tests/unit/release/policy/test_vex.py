"""Which statements of exploitability exempt a vulnerability, and which do not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.release.policy.evidence_set import (
    IMAGE,
    NOW,
    OPENSSL,
    PRODUCTION,
    Edit,
    Piece,
    ago,
    decide,
    dossier,
    failed,
    iso,
    make_pieces,
    policy,
    refused,
    rule,
    with_predicate,
)

pytestmark = pytest.mark.unit


def vex(**members: Any) -> Edit:
    def edit(piece: Piece) -> Piece:
        [said] = piece.predicate["statements"]
        statement = {name: value for name, value in {**said, **members}.items() if value is not None}
        return replace(piece, predicate={**piece.predicate, "statements": [statement]})

    return edit


def product(**members: Any) -> list[dict[str, Any]]:
    return [members]


NUMBER = IMAGE.removeprefix("sha256:")
OTHER_NUMBER = PRODUCTION.removeprefix("sha256:")


@pytest.mark.parametrize(
    "edit",
    [
        vex(status="fixed", justification=None),
        vex(justification=None, impact_statement="the code is never called"),
        vex(vulnerability={"name": "DEBIAN-CVE-2026-7"}),
        vex(vulnerability={"name": "GHSA-x", "aliases": ["CVE-2026-7"]}),
        vex(products=product(hashes={"sha-256": NUMBER})),
        vex(products=product(identifiers={"purl": f"pkg:oci/chat@sha256%3A{NUMBER}?tag=1"})),
        vex(products=[{"@id": OPENSSL}]),
        vex(products=product(identifiers={"purl": "pkg:deb/debian/openssl@3.0.15-1"})),
        vex(products=[{"@id": "urn:other"}, {"@id": OPENSSL}]),
        vex(timestamp=ago(days=1)),
        vex(status_notes="looked at\npratique-expires: 2026-11-26T12:00:01Z"),
        vex(last_updated=ago(days=1), timestamp=ago(days=99)),
        with_predicate(timestamp=ago(days=99), last_updated=ago(days=1)),
    ],
)
def test_an_accepted_author_s_statement_exempts(edit: Edit) -> None:
    assert decide(dossier({"vex": edit})).verdict == "allow"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (vex(status="affected", action_statement="upgrade"), "'ana' states affected"),
        (vex(status="under_investigation"), "'ana' states under_investigation"),
        (with_predicate(timestamp=ago(days=31)), "has expired"),
        (vex(timestamp=ago(days=31)), "has expired"),
        (vex(status_notes="pratique-expires: 2026-11-26T12:00:00Z"), "has expired"),
        (vex(timestamp=iso(NOW + timedelta(days=1))), "is not yet"),
        (vex(vulnerability={"name": "CVE-2026-8"}), "severity high"),
        (vex(products=product(hashes={"sha-256": OTHER_NUMBER})), "severity high"),
        (vex(products=[{"@id": f"pkg:oci/chat@sha256:{OTHER_NUMBER}"}]), "severity high"),
        (vex(products=[{"@id": f"pkg:oci/chat@1?x=@sha256:{NUMBER}"}]), "severity high"),
        (vex(products=[{"@id": "pkg:deb/debian/openssl@3.0.14-1"}]), "severity high"),
        (vex(products=[{"@id": "pkg:deb/debian/openssl"}]), "severity high"),
        (
            vex(products=product(hashes={"sha-256": NUMBER}, subcomponents=[{"@id": "pkg:deb/debian/curl@8"}])),
            "severity high",
        ),
        (vex(products=[{"@id": OPENSSL, "subcomponents": [{"@id": "pkg:deb/debian/zlib1g@1.2"}]}]), "severity high"),
        (lambda piece: replace(piece, party="ben"), "severity high"),
        (lambda piece: replace(piece, subject=PRODUCTION), "severity high"),
    ],
)
def test_what_does_not_exempt_leaves_the_vulnerability_standing(edit: Edit, said: str) -> None:
    code, message = refused("vulnerabilities", "vex", edit)
    assert (code, "CVE-2026-7" in message) == ("vulnerable", True)
    assert said in message


@pytest.mark.parametrize(
    "edit",
    [
        with_predicate(**{"@context": "https://cyclonedx.org"}),
        with_predicate(statements=[]),
        with_predicate(expires="2099-01-01T00:00:00Z"),
        with_predicate(version=0),
        vex(justification="because"),
        vex(status_notes="pratique-expires: never"),
        vex(status_notes="pratique-expires: 2027-01-01T00:00:00"),
        vex(status_notes="pratique-expires: 2099-01-01T00:00:00Z\n  pratique-expires: 2026-01-01T00:00:00Z"),
        vex(timestamp="yesterday"),
        vex(justification=None),
        vex(products=[]),
        vex(status="affected"),
        vex(vulnerability={"name": ""}),
    ],
)
def test_a_malformed_statement_of_exploitability_blocks(edit: Edit) -> None:
    assert refused("vulnerabilities", "vex", edit)[0] == "malformed"


def test_a_later_affected_of_the_same_author_counts() -> None:
    later = vex(status="affected", action_statement="upgrade", timestamp=ago(days=1))(make_pieces()["vex"])
    assert "vulnerabilities" in failed(decide(dossier(more=(later,))))
    earlier = vex(status="affected", action_statement="upgrade", timestamp=ago(days=9))(make_pieces()["vex"])
    assert rule(decide(dossier(more=(earlier,))), "vulnerabilities").outcome == "pass"


def test_of_two_authors_both_must_say_that_it_is_not_affected() -> None:
    both = policy(('vex_authors = ["ana"]', 'vex_authors = ["ana", "ben"]'))
    other = replace(
        vex(status="affected", action_statement="x", timestamp=ago(days=9))(make_pieces()["vex"]), party="ben"
    )
    assert rule(decide(dossier(more=(other,)), by=both), "vulnerabilities").outcome == "fail"
