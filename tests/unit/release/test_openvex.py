"""Statements of exploitability are read as the standard has them, with the reasons that it asks for."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pratique.release.errors import EvidenceError
from pratique.release.openvex import CONTEXT, Assertion, expiry_of, make_document, read_document
from pratique.release.values import Digest

pytestmark = pytest.mark.unit

IMAGE = Digest("sha256:" + "1" * 64)
NOW = datetime(2024, 6, 1, tzinfo=UTC)


def document(**statement: Any) -> bytes:
    one: dict[str, Any] = {
        "vulnerability": {"name": "CVE-2024-1"},
        "products": [{"@id": "pkg:oci/chat@sha256%3A" + "1" * 64}],
        "status": "not_affected",
        "justification": "vulnerable_code_not_present",
    }
    around = statement.pop("around", {})
    one = {name: value for name, value in (one | statement).items() if value is not None}
    body = {"@context": CONTEXT, "@id": "urn:x", "author": "a", "timestamp": "2024-06-01T00:00:00Z", "version": 1}
    return json.dumps(body | {"statements": [one]} | around).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"@context":"\xff"}',
        document(around={"@context": "https://example.org/ns"}),
        document(around={"@context": "https://openvex.dev/ns/v1.0.0"}),
        document(around={"author": ""}),
        document(around={"timestamp": "2024-06-01T00:00:00"}),
        document(around={"version": 0}),
        document(around={"statements": []}),
        document(around={"expires": "2024-07-01T00:00:00Z"}),
        document(expires="2024-07-01T00:00:00Z"),
        document(status="harmless"),
        document(justification="trust me"),
        document(justification=None),
        document(products=[]),
        document(products=None),
        document(vulnerability={"name": ""}),
        document(vulnerability="CVE-2024-1"),
        document(status="affected", justification=None),
        document(status_notes="pratique-expires: next year"),
        document(status_notes="pratique-expires: 2024-07-01"),
        document(status_notes="pratique-expires: 2024-07-01T00:00:00Z\npratique-expires: 2025-07-01T00:00:00Z"),
    ],
    ids=lambda content: repr(content[-90:]),
)
def test_what_breaks_the_standard_or_lacks_its_reason_is_refused(content: bytes) -> None:
    with pytest.raises(EvidenceError):
        read_document(content)


@pytest.mark.parametrize(
    "content",
    [
        document(),
        document(justification=None, impact_statement="it is never called"),
        document(status="affected", justification=None, action_statement="upgrade"),
        document(status="fixed", justification=None),
        document(status="under_investigation", justification=None),
        document(around={"@context": "https://openvex.dev/ns"}),
    ],
)
def test_every_status_is_read_with_its_reason(content: bytes) -> None:
    assert expiry_of(read_document(content).statements[0]) is None


def said(**more: Any) -> Assertion:
    facts: dict[str, Any] = {
        "vulnerability": "CVE-2024-1",
        "aliases": ("PYSEC-2024-1",),
        "packages": ("pkg:pypi/left-pad@1.2",),
        "status": "not_affected",
        "justification": "vulnerable_code_not_in_execute_path",
        "note": "we never pad left",
        "expires_at": NOW + timedelta(days=30),
    }
    return Assertion(**facts | more)


def test_what_is_written_is_read_with_its_end() -> None:
    made = make_document(IMAGE, "chat", "alice", said(), now=NOW)
    (one,) = made.statements
    assert expiry_of(one) == NOW + timedelta(days=30)
    assert one.status_notes == "we never pad left\npratique-expires: 2024-07-01T00:00:00Z"
    assert one.products[0].hashes == {"sha-256": "1" * 64}
    assert one.products[0].subcomponents[0].id == "pkg:pypi/left-pad@1.2"
    assert made == make_document(IMAGE, "chat", "alice", said(), now=NOW)
    assert made.id != make_document(IMAGE, "chat", "bob", said(), now=NOW).id


def test_the_note_goes_where_the_status_wants_it() -> None:
    def statement(**more: Any) -> Any:
        return make_document(IMAGE, "chat", "a", said(expires_at=None, **more), now=NOW).statements[0]

    assert statement(justification=None).impact_statement == "we never pad left"
    assert statement(status="affected", justification=None).action_statement == "we never pad left"
    assert statement(status="fixed", justification=None).status_notes == "we never pad left"
    assert statement().impact_statement == statement(note="").status_notes == ""


def test_a_statement_that_lacks_what_it_needs_or_is_over_is_not_written() -> None:
    for broken in (
        {"justification": None, "note": ""},
        {"status": "affected", "justification": None, "note": ""},
        {"expires_at": NOW},
        {"vulnerability": ""},
    ):
        with pytest.raises((EvidenceError, ValueError)):
            make_document(IMAGE, "chat", "a", said(**broken), now=NOW)
