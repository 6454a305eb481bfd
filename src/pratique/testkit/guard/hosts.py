"""Which hosts a run may reach: this machine always, others where they were named. Decides; resolves nothing."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pratique.core.secrets.local import is_local, parse_ip, plain_name
from pratique.testkit.errors import TestkitUsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Hosts", "make_proxy_pins", "parse_hosts"]

_NAME: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_EVERYWHERE: Final = "*"
_PROXIES: Final = frozenset({"http_proxy", "https_proxy", "all_proxy", "ftp_proxy", "ws_proxy", "wss_proxy"})


@dataclass(frozen=True, kw_only=True)
class Hosts:
    """Hosts beyond this machine that were allowed."""

    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    names: frozenset[str] = frozenset()
    is_everywhere: bool = False

    def allows(self, host: str) -> bool:
        """Judge a host as a program gives it: a name or an address."""
        if self.is_everywhere or is_local(host):
            return True
        return self.names_host(host)

    def names_host(self, host: str) -> bool:
        """Whether it was allowed itself, by whatever it is: this machine is not, unless it was named too."""
        ip = parse_ip(host)
        if ip is None:
            return plain_name(host) in self.names
        return any(ip in network for network in self.networks)

    def with_more(self, more: Hosts) -> Hosts:
        """Return what either allows."""
        return Hosts(
            networks=self.networks + more.networks,
            names=self.names | more.names,
            is_everywhere=self.is_everywhere or more.is_everywhere,
        )


def make_proxy_pins(environment: Mapping[str, str], hosts: Hosts) -> dict[str, str | None]:
    """Return the proxies to remove: one on this machine would lead everywhere, so only those stay that were named."""
    if hosts.is_everywhere:
        return {}
    given = {name: url for name, url in environment.items() if name.lower() in _PROXIES}
    return {name: None for name, url in given.items() if not hosts.names_host(_host_of_proxy(url))}


def _host_of_proxy(url: str) -> str:
    try:
        return urlsplit(url if "://" in url else f"//{url}").hostname or ""
    except ValueError:
        return ""  # no URL, so nothing that was named


def parse_hosts(given: Iterable[str], *, where: str) -> Hosts:
    """Read names, addresses and networks (`10.0.0.0/8`), several in one text where commas part them; `*` is everywhere.

    Raises:
        TestkitUsageError: one is none of these.
    """
    networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    names: set[str] = set()
    is_everywhere = False
    for word in (part.strip() for text in given for part in text.split(",")):
        if word == _EVERYWHERE:
            is_everywhere = True
        elif not word:
            continue
        elif (network := _parse_network(word)) is not None:
            networks.append(network)
        elif _NAME.fullmatch(word):
            names.add(plain_name(word))
        else:
            raise TestkitUsageError(
                f"'{word}' in {where} is not a host.",
                hint="Expected a name, an address, a network such as 10.0.0.0/8, or * for all; no scheme, no port.",
            )
    return Hosts(networks=tuple(networks), names=frozenset(names), is_everywhere=is_everywhere)


def _parse_network(word: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(word.strip("[]"), strict=False)
    except ValueError:
        return None
