"""Heads that two servers could read in two ways, headers that are not a client's to send, whose address it is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.core.settings import SettingsError
from pratique.orchestrator.access import HeadersRefusedError
from pratique.orchestrator.access.wire import (
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    believed,
    network_of,
    parse_networks,
    remote_of,
    request_id_of,
    verify_head,
)

pytestmark = pytest.mark.unit

HOST = (b"host", b"chat.example.org")
TRUSTED = parse_networks(["10.0.0.0/8", "::1"])


@pytest.mark.parametrize(
    "more",
    [
        [HOST],
        [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")],
        [(b"authorization", b"Bearer a")] * 2,
        [(b"content-length", b"2"), (b"content-length", b"2")],
        [(b"content-length", b"2"), (b"transfer-encoding", b"chunked")],
        [(b"transfer-encoding", b"gzip, chunked")],
        [(b"transfer-encoding", b"identity")],
        [(b"cookie", b"a=b"), (b"cookie", b"c=d")],
        [(b"origin", b"https://a"), (b"origin", b"https://b")],
        [(b"x-a", b"b\r\nx-admin: 1")],
        [(b"x-a", b"b\x00c")],
        [(b"x-a", b"b\x7f")],
        [(b"x-a", b"b" * (MAX_HEADER_BYTES + 1))],
        [(b"x-a", b"b")] * MAX_HEADERS,
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_refused(more: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(HeadersRefusedError) as refused:
        verify_head([HOST, *more])
    assert "Bearer" not in refused.value.message


@pytest.mark.parametrize("version", ["0.9", "2.0", "1.2"])
def test_another_version_of_http_is_refused(version: str) -> None:
    with pytest.raises(HeadersRefusedError):
        verify_head([HOST], http_version=version)


def test_a_missing_host_is_refused_but_in_http_1_0() -> None:
    with pytest.raises(HeadersRefusedError):
        verify_head([])
    verify_head([], http_version="1.0")


def test_an_ordinary_head_passes() -> None:
    verify_head([HOST, (b"accept", b"a"), (b"accept", b"b"), (b"x-a", b"tab\there"), (b"content-length", b"2")])
    verify_head([HOST, (b"transfer-encoding", b"Chunked"), (b"authorization", "Bearer é".encode("latin-1"))])


def test_what_our_parts_say_to_each_other_is_not_believed_from_outside() -> None:
    kept = [HOST, (b"x-pratique-affinity", b"abcdefgh"), (b"x-other", b"1")]
    assert believed([*kept, (b"x-pratique-conversation", b"1"), (b"x-pratique-budget", b"9")]) == kept


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("203.0.113.9", "1.2.3.4", "203.0.113.9"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "1.1.1.1, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "1.1.1.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "evil, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "evil", "10.0.0.1"),
        ("::1", "2001:db8::1", "2001:db8::1"),
        ("", "1.2.3.4", ""),
        ("::ffff:203.0.113.9", "1.2.3.4", "203.0.113.9"),
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9, ::FFFF:10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
    ],
)
def test_the_address_is_the_last_that_a_trusted_proxy_saw(peer: str, forwarded: str, found: str) -> None:
    assert remote_of(peer, [(b"x-forwarded-for", forwarded.encode())] if forwarded else [], TRUSTED) == found


def test_of_several_forwarded_for_the_last_is_what_the_last_proxy_said() -> None:
    lines = [(b"x-forwarded-for", b"1.1.1.1"), HOST, (b"x-forwarded-for", b"203.0.113.9, 10.0.0.2")]
    assert remote_of("10.0.0.1", lines, TRUSTED) == "203.0.113.9"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("nonsense", "nonsense"),
    ],
)
def test_who_has_a_network_of_addresses_is_one(address: str, network: str) -> None:
    assert network_of(address) == network


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert remote_of("10.0.0.1", [(b"x-forwarded-for", b"1.2.3.4")], ()) == "10.0.0.1"
    assert remote_of("::ffff:10.0.0.1", [], ()) == "10.0.0.1"


def test_a_network_that_is_none_is_refused_at_start() -> None:
    with pytest.raises(SettingsError, match="trusted_proxies"):
        parse_networks(["the edge"])


@pytest.mark.parametrize(
    ("given", "found"), [("abc-1", "abc-1"), ("a b", ""), ("x" * 65, ""), ("a\u202eb", ""), ("", "")]
)
def test_a_request_id_is_taken_where_it_can_be_logged(given: str, found: str) -> None:
    assert request_id_of({"x-request-id": given}) == found
    assert request_id_of({}) == ""


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["10.0.0.1", "203.0.113.9", "nonsense"]))
def test_any_forwarded_for_is_read_without_a_fault(forwarded: bytes, peer: str) -> None:
    assert isinstance(remote_of(peer, [(b"x-forwarded-for", forwarded)], TRUSTED), str)
