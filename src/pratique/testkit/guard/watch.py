"""The guard of one session, and the stack of those that run in this process: what is judged, by whom, what was blocked.

A session that runs inside a test of another (pytester, in process) puts its guard on top and takes it off again; the
one on top decides. Empty stack: everything is let through, as if the guard were not there.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pratique.core.secrets.local import is_local, parse_ip
from pratique.testkit.errors import NetworkBlockedError
from pratique.testkit.guard.hosts import Hosts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Layer = Callable[[], contextlib.AbstractContextManager[None]]

__all__ = ["MAX_BLOCKED", "Guard", "current_guard", "guarded"]

MAX_BLOCKED: Final = 200
"""So many are remembered for the summary; the rest are only refused."""
_AGAIN_SECONDS: Final = 5.0
"""A name is not resolved again before: what is blocked over and over costs no look-up each time."""
_RESOLVING_SECONDS: Final = 3.0
"""Whoever connects waits so long at most, a program with an event loop as a whole."""


def _resolve(name: str) -> set[str]:
    with contextlib.suppress(OSError, UnicodeError):
        return {_plain(str(found[4][0])) for found in socket.getaddrinfo(name, None)}
    return set()


def _plain(host: str) -> str:
    """Return an address as it is compared: an IPv4 address that an IPv6 socket wraps is the IPv4 address."""
    return str(parse_ip(host) or host)


@dataclass(eq=False)
class Guard:
    """Judges every host that the process reaches for, and remembers what it blocked."""

    hosts: Hosts = field(default_factory=Hosts)
    """Allowed for the whole session."""
    resolve: Callable[[str], set[str]] = _resolve
    own_name: str = ""
    """This machine's: looking it up leaves nothing behind and is common."""
    blocked: list[str] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic
    _test: str = ""
    _extra: Hosts | None = None
    _known: dict[str, set[str]] = field(default_factory=dict)
    _asked: dict[str, float] = field(default_factory=dict)
    _asking: threading.Lock = field(default_factory=threading.Lock)
    _own: threading.local = field(default_factory=threading.local)

    @contextlib.contextmanager
    def during(self, test: str, extra: Hosts | None) -> Iterator[None]:
        """Judge in the name of a test, with what its marks allow it."""
        self._test, self._extra = test, extra
        try:
            yield
        finally:
            self._test, self._extra = "", None

    @property
    def allowed(self) -> Hosts:
        return self.hosts.with_more(self._extra) if self._extra else self.hosts

    def judge_name(self, name: str) -> None:
        """Judge a look-up. An address is no look-up: what is done with it is judged there.

        Raises:
            NetworkBlockedError: the name is not allowed.
        """
        if parse_ip(name) is None and name != self.own_name and not self._is_resolving():
            self.judge(name, f"look up '{name}'")

    def judge_address(self, host: str, port: object) -> None:
        """Judge a connection or a datagram.

        Raises:
            NetworkBlockedError: the address is not allowed.
        """
        self._judge_address(host, f"reach {host}:{port}")

    def judge_reverse(self, host: str) -> None:
        """Judge who asks for the name of an address, or of a name.

        Raises:
            NetworkBlockedError: it is not allowed.
        """
        self.judge_name(host) if parse_ip(host) is None else self._judge_address(host, f"ask for the name of {host}")

    def _judge_address(self, host: str, what: str) -> None:
        if is_local(host) or self._is_resolving():
            return
        allowed = self.allowed
        if not allowed.allows(host) and not self._is_known(_plain(host), allowed.names):
            self._block(what, host)

    def judge(self, host: str, what: str) -> None:
        """Judge a host as a client names it.

        Raises:
            NetworkBlockedError: the host is not allowed.
        """
        if not self.allowed.allows(host):
            self._block(what, host)

    def block(self, what: str, hint: str) -> None:
        """Refuse, and remember it.

        Raises:
            NetworkBlockedError: always.
        """
        who = self._test or "something outside a test (an import, a fixture of the session, a plugin)"
        if len(self.blocked) < MAX_BLOCKED:
            self.blocked.append(f"{who}: tried to {what}")
        raise NetworkBlockedError(f"{who} tried to {what}, and the guard blocked it.", hint=hint)

    def _block(self, what: str, host: str) -> None:
        self.block(
            what,
            f"Use a service of the test kit, or allow the host: @pytest.mark.allow_hosts({host!r}) on the test, "
            "pratique_allow_hosts in the ini file, or --pratique-allow-hosts for one run.",
        )

    def _is_resolving(self) -> bool:
        return getattr(self._own, "is_resolving", False)

    def _is_known(self, host: str, names: Iterable[str]) -> bool:
        """Whether it is an address of an allowed name, as far as they are known: large names have others each time."""
        if self._has(host, names):
            return True
        # Bounded, as the thread that has it may be one that a fork left behind.
        if self._asking.acquire(timeout=_RESOLVING_SECONDS):
            try:
                self._learn(
                    [name for name in names if self.clock() - self._asked.get(name, -math.inf) >= _AGAIN_SECONDS]
                )
            finally:
                self._asking.release()
        return self._has(host, names)

    def _has(self, host: str, names: Iterable[str]) -> bool:
        return any(host in self._known.get(name, ()) for name in names)

    def _learn(self, names: Iterable[str]) -> None:
        """Resolve names, each in a thread: the system's resolver knows no deadline. Late answers count from then on."""
        threads = [threading.Thread(target=self._learn_one, args=(name,), daemon=True) for name in names]
        until = time.monotonic() + _RESOLVING_SECONDS
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _learn_one(self, name: str) -> None:
        self._own.is_resolving = True
        self._asked[name] = self.clock()
        # What it was known by stays: connections to it may be pooled.
        self._known[name] = self._known.get(name, set()) | self.resolve(name)


_stack: Final[list[Guard]] = []


def current_guard() -> Guard | None:
    """Return the guard that decides now."""
    return _stack[-1] if _stack else None


@contextlib.contextmanager
def guarded(guard: Guard, layers: Iterable[Layer] = ()) -> Iterator[Guard]:
    """Put a guard on top, with the layers that ask it, and take it off in the end."""
    _stack.append(guard)
    try:
        with contextlib.ExitStack() as stack:
            for layer in layers:
                stack.enter_context(layer())
            yield guard
    finally:
        _stack.remove(guard)
