from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.release.errors import VerificationError
from pratique.release.signing.dsse import Envelope, pae, parse_envelope, wire_of

pytestmark = pytest.mark.unit

SIG = base64.b64encode(b"signature").decode()


def wire(**changes: object) -> bytes:
    whole = {"payload": "aGk=", "payloadType": "text/plain", "signatures": [{"sig": SIG, "keyid": ""}]}
    return msgspec.json.encode(whole | changes)


def test_the_encoding_is_that_of_the_specifications_example() -> None:
    """Secure-systems-lab/dsse v1.0.0, protocol.md, "Test Vectors"."""
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_lengths_count_bytes_and_not_letters() -> None:
    assert pae("ü", b"") == b"DSSEv1 2 \xc3\xbc 0 "


TYPES = st.text(alphabet="1 é", max_size=4)
PAYLOADS = st.binary(max_size=4)


@given(TYPES, PAYLOADS, TYPES, PAYLOADS)
@settings(max_examples=50)
def test_two_messages_never_have_the_same_encoding(type1: str, payload1: bytes, type2: str, payload2: bytes) -> None:
    same = (type1, payload1) == (type2, payload2)
    assert (pae(type1, payload1) == pae(type2, payload2)) is same


def test_an_envelope_is_read_as_it_was_written() -> None:
    envelope = Envelope(b"hi", "text/plain", b"signature")
    assert parse_envelope(wire()) == envelope == parse_envelope(msgspec.json.encode(wire_of(envelope)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        wire()[:-1],
        wire(payload=None),
        wire(payload="aGk"),
        wire(payload="aG k="),
        wire(payload="a-_="),
        wire(payload="aGk=\n"),
        wire(payloadType=1),
        wire(signatures=[]),
        wire(signatures=[{"sig": ""}]),
        wire(signatures=[{"sig": SIG}, {"sig": SIG}]),
        wire(signatures=[{"keyid": "k"}]),
        wire(signatures=[{"sig": SIG, "cert": "c"}]),
        wire(more=1),
    ],
)
def test_what_is_no_envelope_with_one_signature_is_refused(content: bytes) -> None:
    with pytest.raises(VerificationError):
        parse_envelope(content)
