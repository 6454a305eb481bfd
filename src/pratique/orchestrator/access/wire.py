"""What is believed of a request's head: which headers may stand once only, which are dropped, who sent it. Pure.

The parser before us refuses what cannot be parsed in one way only (Content-Length with Transfer-Encoding, line breaks
in values). What it lets through and two servers could read differently is refused here: a Host, a credential or a
length that stands twice. Headers by which our own parts speak to each other are dropped where a client sends them.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final, TypeAlias

from pratique.core.settings import SettingsError
from pratique.orchestrator.access.errors import HeadersRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "Network",
    "RawHeaders",
    "believed",
    "network_of",
    "parse_networks",
    "remote_of",
    "request_id_of",
    "verify_head",
]

RawHeaders: TypeAlias = "Sequence[tuple[bytes, bytes]]"
"""As ASGI has them: lower-case names, in the order in which they came."""
Network: TypeAlias = IPv4Network | IPv6Network

MAX_HEADERS: Final = 100
MAX_HEADER_BYTES: Final = 32_768
_ONCE: Final = frozenset(
    b"host authorization content-length content-type cookie transfer-encoding origin sec-fetch-site upgrade "
    b"last-event-id x-pratique-affinity".split()
)
_VERSIONS: Final = frozenset({"1.0", "1.1"})
_CONTROL: Final = bytes({*range(0x20), 0x7F} - {0x09})
_OURS: Final = b"x-pratique-"
_FROM_CLIENTS: Final = frozenset({b"x-pratique-affinity", b"x-pratique-timeout-seconds"})
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_FORWARDED_FOR: Final = b"x-forwarded-for"
_MAX_FORWARDED: Final = 32
_IPV4: Final = 4
_SUBSCRIBER_BITS: Final = 64


def verify_head(headers: RawHeaders, *, http_version: str = "1.1") -> None:
    """Refuse a head that could be read in two ways, or is too large to be one.

    Raises:
        HeadersRefusedError: naming the header, never its value.
    """
    seen = dict(headers)
    names, values = b"".join([name for name, _ in headers]), b"".join([value for _, value in headers])
    if len(headers) > MAX_HEADERS or len(names) + len(values) > MAX_HEADER_BYTES:
        raise HeadersRefusedError(f"At most {MAX_HEADERS} headers and {MAX_HEADER_BYTES} bytes of them.")
    if len(seen) != len(headers):
        _verify_once([name for name, _ in headers])
    if len(values.translate(None, _CONTROL)) != len(values):
        raise HeadersRefusedError("A header holds a control character.")
    if b"transfer-encoding" in seen:
        _verify_coding(headers, has_length=b"content-length" in seen)
    if http_version not in _VERSIONS or (http_version == "1.1" and b"host" not in seen):
        raise HeadersRefusedError("Expected HTTP/1.1 with a Host.")


def _verify_once(names: Sequence[bytes]) -> None:
    # Cookies may come in several lines in HTTP/2 (RFC 9113 8.2.3); over 1.1 nobody sends them so.
    if twice := next((name for name in _ONCE if names.count(name) > 1), None):
        raise HeadersRefusedError(f"The header '{twice.decode()}' stands more than once.")


def _verify_coding(headers: RawHeaders, *, has_length: bool) -> None:
    coding = next(value for name, value in headers if name == b"transfer-encoding")
    if coding.strip().lower() != b"chunked":
        raise HeadersRefusedError("The only transfer coding here is 'chunked'.")
    if has_length:
        raise HeadersRefusedError("Content-Length and Transfer-Encoding exclude each other.")


def believed(headers: RawHeaders) -> RawHeaders:
    """Return the headers without those that only our own parts may send to each other; as they are where all stay."""
    if _OURS not in b" ".join([name for name, _ in headers]):
        return headers
    return [(name, value) for name, value in headers if not name.startswith(_OURS) or name in _FROM_CLIENTS]


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Read addresses and networks; raise `SettingsError` for what is neither."""
    try:
        return tuple(ip_network(text, strict=False) for text in texts)
    except ValueError as error:
        raise SettingsError(f"Expected addresses or networks in access.trusted_proxies: {error}.") from error


def remote_of(peer: str, headers: RawHeaders, trusted: Sequence[Network]) -> str:
    """Return the address that a request came from; IPv4 as such, also where a socket for both families had it.

    X-Forwarded-For is read from its end, and as far as those who wrote it are trusted: what a client put there itself
    stands before that. Several such headers are one list, in their order (RFC 9110 5.3).
    """
    found = _plain(peer)
    if not trusted:
        return found
    lines = [value.decode("latin-1") for name, value in headers if name == _FORWARDED_FOR]
    forwarded = [part.strip() for part in ",".join(lines).split(",")[-_MAX_FORWARDED:]]
    while forwarded and _is_in(found, trusted):
        before = forwarded.pop()
        if not _is_address(before):
            break
        found = _plain(before)
    return found


def network_of(address: str) -> str:
    """Return what one subscriber has at least: an IPv6 address's /64 (RFC 6177), any other address as it is."""
    if not _is_address(address) or ip_address(address).version == _IPV4:
        return address
    # Without the zone, which says only by which interface.
    return str(ip_network((address.partition("%")[0], _SUBSCRIBER_BITS), strict=False))


def request_id_of(headers: Mapping[str, str]) -> str:
    """Return the request's id as whoever is before us gave it; "" where it has none that can be logged."""
    found = headers.get("x-request-id", "")
    return found if _REQUEST_ID.fullmatch(found) else ""


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _plain(address: str) -> str:
    """Return an IPv4 address that is mapped into IPv6 (RFC 4291 2.5.5.2) as what it is."""
    if ":" not in address or not _is_address(address):
        return address
    mapped = getattr(ip_address(address), "ipv4_mapped", None)
    return str(mapped) if mapped is not None else address


def _is_in(address: str, networks: Sequence[Network]) -> bool:
    return _is_address(address) and any(ip_address(address) in network for network in networks)
