"""Which hosts are this machine, by whatever spelling. Resolves nothing."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import Final

__all__ = ["Ip", "is_local", "parse_ip", "plain_name"]

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

_LOCAL_NAMES: Final = frozenset({"", "localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})

_NUMBER: Final = r"(?:0[xX][0-9a-fA-F]+|[0-9]+)"
_SHORT_IP: Final = re.compile(rf"{_NUMBER}(?:\.{_NUMBER}){{0,3}}")
_OCTET_BITS: Final = 8
_NUM_OCTETS: Final = 4


def is_local(host: str) -> bool:
    """Whether it is this machine by whatever name: loopback, the unspecified address, `*.localhost`."""
    ip = parse_ip(host)
    if ip is not None:
        return ip.is_loopback or ip.is_unspecified
    name = plain_name(host)
    return name in _LOCAL_NAMES or name.endswith(".localhost")


def parse_ip(host: str) -> Ip | None:
    """Return the address that a host is, short and odd spellings included; None for a name."""
    with contextlib.suppress(ValueError):
        ip = ipaddress.ip_address(host.strip("[]"))
        return getattr(ip, "ipv4_mapped", None) or ip
    if _SHORT_IP.fullmatch(host):
        with contextlib.suppress(ValueError):
            return ipaddress.IPv4Address(_short_form(host))
    return None


def _short_form(host: str) -> int:
    """Read `127.1` or `0x7f000001` as `inet_aton` does: the last number takes the octets that are left."""
    *heads, last = [_number(part) for part in host.split(".")]
    shift = _OCTET_BITS * (_NUM_OCTETS - len(heads))
    if last >> shift or any(head >> _OCTET_BITS for head in heads):
        raise ValueError(host)
    return last | sum(head << _OCTET_BITS * (_NUM_OCTETS - 1 - at) for at, head in enumerate(heads))


def _number(part: str) -> int:
    if part[:2] in {"0x", "0X"}:
        return int(part, 16)
    return int(part, 8 if part.startswith("0") and part != "0" else 10)


def plain_name(host: str) -> str:
    """Return a host's name as names are compared."""
    return host.lower().rstrip(".")
