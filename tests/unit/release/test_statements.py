from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.release import statements
from pratique.release.errors import EvidenceError
from pratique.release.predicates import APPROVAL, DependencyReview, Hygiene
from pratique.release.statements import make_statement, parse_statement
from pratique.release.values import digest_of

pytestmark = pytest.mark.unit

IMAGE = digest_of(b"image")
HEX = IMAGE.removeprefix("sha256:")


def wire(**changes: object) -> bytes:
    whole = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": HEX}}],
        "predicateType": "urn:x",
        "predicate": {},
    }
    return msgspec.json.encode({name: value for name, value in (whole | changes).items() if value is not None})


def test_a_statement_keeps_the_bytes_it_was_read_from() -> None:
    payload = wire(predicate={"b": 1, "a": 2}) + b"\n "
    statement = parse_statement(payload)
    assert statement.payload == payload
    assert statement.digest == digest_of(payload)
    assert (statement.subjects, statement.predicate_type) == ((IMAGE,), "urn:x")


def test_statements_of_the_older_form_that_cosign_writes_are_read() -> None:
    assert parse_statement(wire(_type="https://in-toto.io/Statement/v0.1")).subjects == (IMAGE,)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        wire()[:-1],
        wire(_type="https://in-toto.io/Statement/v2"),
        wire(_type=None),
        wire(predicateType=None),
        wire(predicateType=3),
        wire(subject=None),
        wire(subject=[]),
        wire(subject=[{"digest": {}}]),
        wire(subject=[{"digest": {"sha512": "0" * 128}}]),
        wire(subject=[{"digest": {"sha256": HEX.upper()}}]),
        wire(subject=[{"digest": {"sha256": HEX[1:]}}]),
        wire(subject=[{"digest": {"sha256": HEX}}, {"digest": {"sha1": "0" * 40}}]),
    ],
)
def test_what_is_no_statement_is_refused(payload: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_statement(payload)


def test_a_statement_larger_than_allowed_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statements, "MAX_STATEMENT_BYTES", 10)
    with pytest.raises(EvidenceError, match="at most 10 are read"):
        parse_statement(wire())


@settings(max_examples=30)
@given(st.dictionaries(st.text(), st.integers(-(2**53), 2**53) | st.text()))
def test_the_same_content_makes_the_same_bytes(content: dict[str, object]) -> None:
    again = dict(reversed(content.items()))
    first, second = make_statement(IMAGE, "urn:x", content), make_statement(IMAGE, "urn:x", again)
    assert first == second
    assert msgspec.json.decode(first.predicate) == content


def test_a_predicate_is_read_as_the_kind_that_is_asked_for() -> None:
    found = Hygiene(checked=("root",), size_bytes=1, wasted_bytes=0)
    assert make_statement(IMAGE, "urn:x", found).read(Hygiene) == found


@pytest.mark.parametrize("predicate", [{}, {"checked": [], "size_bytes": 1, "wasted_bytes": 0, "surprise": 1}])
def test_a_predicate_that_lacks_or_adds_a_member_is_malformed(predicate: dict[str, object]) -> None:
    with pytest.raises(EvidenceError, match="malformed"):
        make_statement(IMAGE, APPROVAL, predicate).read(Hygiene)


def test_text_that_is_no_utf_8_is_malformed() -> None:
    head = b'{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"' + b"1" * 64 + b'"}}],'
    with pytest.raises(EvidenceError, match="expected an in-toto statement"):
        parse_statement(head + b'"predicateType":"\xff"}')
    statement = parse_statement(head + b'"predicateType":"x","predicate":{"diff":"\xff"}}')
    with pytest.raises(EvidenceError, match="is malformed"):
        statement.read(DependencyReview)


def test_what_is_nested_too_deeply_is_refused() -> None:
    predicate = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(EvidenceError):
        parse_statement(make_statement(IMAGE, "urn:x", {"b": 1}).payload.replace(b'{"b":1}', predicate))
