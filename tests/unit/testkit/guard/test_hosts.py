"""Which hosts are allowed, and how the guard judges what reaches for them."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from pratique.core.secrets.local import is_local, parse_ip
from pratique.testkit.errors import NetworkBlockedError, TestkitUsageError
from pratique.testkit.guard import watch
from pratique.testkit.guard.hosts import Hosts, make_proxy_pins, parse_hosts
from pratique.testkit.guard.sockets import judge_event
from pratique.testkit.guard.watch import MAX_BLOCKED, Guard, current_guard, guarded

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "::ffff:127.0.0.1", "0.0.0.0", "::", "127.1", "2130706433", "0x7f.1", "",
     "localhost", "LOCALHOST.", "s3.localhost", "ip6-localhost"],
)  # fmt: skip
def test_this_machine_by_every_name(host: str) -> None:
    assert is_local(host)
    assert Hosts().allows(host)


@pytest.mark.parametrize(
    "host",
    ["8.8.8.8", "::ffff:8.8.8.8", "134744072", "fe80::1%eth0", "localhost.evil.org", "notlocalhost", "127.0.0.1.nip.io",
     "128.0.0.1", "999.1.1.1", "169.254.169.254"],
)  # fmt: skip
def test_other_machines(host: str) -> None:
    assert not is_local(host)
    assert not Hosts().allows(host)


def test_names_addresses_and_networks_are_read() -> None:
    hosts = parse_hosts(["10.0.0.0/8,db.Internal. ", "", "2001:db8::/32", "192.0.2.1"], where="x")
    for host in ("10.9.8.7", "DB.internal", "2001:db8::5", "192.0.2.1"):
        assert hosts.allows(host)
    for host in ("11.0.0.1", "x.db.internal", "192.0.2.2", "2001:db9::1"):
        assert not hosts.allows(host)
    assert parse_hosts(["*"], where="x").allows("anything.org")


@pytest.mark.parametrize("given", ["http://x", "10.0.0.1:80", "a b", "-x", "x" * 300])
def test_what_is_no_host_is_refused(given: str) -> None:
    with pytest.raises(TestkitUsageError, match="in the flag is not a host"):
        parse_hosts([given], where="the flag")


def test_hosts_add_up() -> None:
    both = parse_hosts(["a.org"], where="x").with_more(parse_hosts(["10.0.0.0/8"], where="x"))
    assert both.allows("a.org")
    assert both.allows("10.1.1.1")
    assert not parse_ip("a.org")


def guard(*hosts: str, **named: Any) -> Guard:
    return Guard(hosts=parse_hosts(hosts, where="x"), **named)


def test_a_blocked_address_names_the_test_the_address_and_the_way_out() -> None:
    one = guard()
    with one.during("test_a.py::test_b", None), pytest.raises(NetworkBlockedError) as caught:
        one.judge_address("192.0.2.1", 443)
    for part in ("test_a.py::test_b", "192.0.2.1:443", "allow_hosts('192.0.2.1')", "pratique_allow_hosts"):
        assert part in str(caught.value)
    assert one.blocked == ["test_a.py::test_b: tried to reach 192.0.2.1:443"]


def test_what_a_test_is_allowed_ends_with_it() -> None:
    one = guard()
    with one.during("test", parse_hosts(["192.0.2.1"], where="x")):
        one.judge_address("192.0.2.1", 1)
    with pytest.raises(NetworkBlockedError, match="outside a test"):
        one.judge_address("192.0.2.1", 1)


class Names:
    """Resolves as it is told, at a time that is told."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.now, self.asked = list(answers), 0.0, 0

    def resolve(self, _name: str) -> set[str]:
        self.asked += 1
        return {self.answers.pop(0)}

    def clock(self) -> float:
        return self.now


def test_an_allowed_name_with_many_addresses_is_asked_anew_and_keeps_those_it_had() -> None:
    names = Names("192.0.2.1", "192.0.2.2")
    one = guard("cdn.org", resolve=names.resolve, clock=names.clock)
    one.judge_address("192.0.2.1", 1)
    with pytest.raises(NetworkBlockedError):
        one.judge_address("192.0.2.2", 1)
    names.now = 5.0
    for address in ("192.0.2.2", "192.0.2.1"):
        one.judge_address(address, 1)
    assert names.asked == 2


def test_a_resolver_that_does_not_answer_holds_nobody_up_and_may_answer_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_RESOLVING_SECONDS", 0.01)
    answers = threading.Event()
    done = threading.Event()

    class Known(dict[str, set[str]]):
        def __setitem__(self, name: str, addresses: set[str]) -> None:
            super().__setitem__(name, addresses)
            done.set()

    def resolve(_name: str) -> set[str]:
        answers.wait(10)
        return {"192.0.2.1"}

    one = guard("slow.org", resolve=resolve)
    one._known = Known()
    with pytest.raises(NetworkBlockedError):
        one.judge_address("192.0.2.1", 1)
    answers.set()
    assert done.wait(10)
    one.judge_address("192.0.2.1", 1)


def test_a_lock_that_nobody_frees_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_RESOLVING_SECONDS", 0.01)
    one = guard("a.org", resolve=lambda _name: {"192.0.2.1"})
    with one._asking, pytest.raises(NetworkBlockedError):
        one.judge_address("192.0.2.1", 1)


def test_an_allowed_name_allows_what_it_resolves_to_and_is_asked_once() -> None:
    asked: list[str] = []

    def resolve(name: str) -> set[str]:
        asked.append(name)
        one.judge_name("what-the-resolver-itself-looks-up.org")
        one.judge_address("192.0.2.53", 53)
        return {"192.0.2.7"}

    one = guard("db.org", resolve=resolve)
    one.judge_name("db.org")
    one.judge_address("192.0.2.7", 1)
    one.judge_address("192.0.2.7", 1)
    with pytest.raises(NetworkBlockedError):
        one.judge_address("192.0.2.8", 1)
    assert asked == ["db.org"]


def test_addresses_and_the_own_name_are_no_look_ups() -> None:
    one = guard(own_name="me")
    one.judge_name("192.0.2.1")
    one.judge_name("me")
    with pytest.raises(NetworkBlockedError, match=r"look up 'a\.org'"):
        one.judge_name("a.org")


def test_what_is_remembered_has_a_bound() -> None:
    one = guard()
    for port in range(MAX_BLOCKED + 5):
        with pytest.raises(NetworkBlockedError):
            one.judge_address("192.0.2.1", port)
    assert len(one.blocked) == MAX_BLOCKED


def test_the_guard_on_top_decides() -> None:
    outer = current_guard()
    with guarded(guard()) as one:
        with guarded(guard()) as two:
            assert current_guard() is two
        assert current_guard() is one
    assert current_guard() is outer


@pytest.mark.parametrize("event", ["socket.connect", "socket.sendto", "socket.sendmsg"])
@pytest.mark.parametrize("host", ["192.0.2.1", b"192.0.2.1", bytearray(b"192.0.2.1")])
def test_addresses_of_events_are_judged(event: str, host: object) -> None:
    with socket.socket() as sock:
        with pytest.raises(NetworkBlockedError):
            judge_event(guard(), event, (sock, (host, 80)))
        assert (sock.fileno() == -1) is (event == "socket.connect")


def test_events_without_an_internet_address_pass() -> None:
    with socket.socket(socket.AF_UNIX) as unix, socket.socket() as sock:
        judge_event(guard(), "socket.connect", (unix, "/a/path"))
        judge_event(guard(), "socket.sendmsg", (sock, None))
        judge_event(guard(), "socket.connect", (sock, ("127.0.0.1", 80)))
        judge_event(guard(), "socket.connect", (sock, ("127.0.0.1",)))


@pytest.mark.parametrize("event", ["socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"])
def test_look_ups_are_judged(event: str) -> None:
    judge_event(guard(), event, (None, 80))
    judge_event(guard(), event, (b"localhost", 80))
    with pytest.raises(NetworkBlockedError):
        judge_event(guard(), event, (b"a.org", 80))


@pytest.mark.parametrize(("event", "args"), [
    ("socket.gethostbyaddr", ("192.0.2.1",)), ("socket.getnameinfo", (("192.0.2.1", 80),)),
    ("socket.getnameinfo", (("2001:db8::1", 80, 0, 0),)), ("socket.getnameinfo", (("a.org", 80),)),
])  # fmt: skip
def test_asking_for_the_name_of_a_foreign_address_is_blocked(event: str, args: tuple[Any, ...]) -> None:
    with pytest.raises(NetworkBlockedError):
        judge_event(guard(), event, args)
    judge_event(guard("192.0.2.0/24", "2001:db8::/32", "a.org"), event, args)


def test_asking_for_the_name_of_this_machine_passes() -> None:
    one = guard(own_name="me")
    judge_event(one, "socket.gethostbyaddr", ("me",))
    judge_event(one, "socket.gethostbyaddr", ("127.0.0.1",))
    judge_event(one, "socket.getnameinfo", (("::1", 80, 0, 0),))


def test_an_address_that_an_ipv6_socket_wraps_is_that_of_the_name() -> None:
    one = guard("db.org", resolve=lambda _name: {"192.0.2.7"})
    one.judge_address("::ffff:192.0.2.7", 1)
    with pytest.raises(NetworkBlockedError, match=r"::ffff:192\.0\.2\.8"):
        one.judge_address("::ffff:192.0.2.8", 1)


def test_a_look_up_that_failed_is_done_again() -> None:
    now, answers = [0.0], [set[str](), {"192.0.2.7"}]
    one = guard("db.org", resolve=lambda _name: answers.pop(0), clock=lambda: now[0])
    with pytest.raises(NetworkBlockedError):
        one.judge_address("192.0.2.7", 1)
    now[0] = 5.0
    one.judge_address("192.0.2.7", 1)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("url", ["http://127.0.0.1:3128", "localhost:3128", "http://proxy.org:1", "http://[", "", "x"])
def test_proxies_lead_everywhere_and_are_removed(name: str, url: str) -> None:
    assert make_proxy_pins({name: url, "NO_PROXY": "a", "PROXY": url}, Hosts()) == {name: None}


@pytest.mark.parametrize("host", ["127.0.0.1", "proxy.org", "*"])
def test_a_proxy_that_was_named_stays(host: str) -> None:
    hosts = parse_hosts([host, "127.0.0.1" if host == "*" else host], where="x")
    url = "proxy.org" if host == "proxy.org" else "127.0.0.1"
    assert make_proxy_pins({"HTTP_PROXY": f"http://u:p@{url}:3128"}, hosts) == {}
