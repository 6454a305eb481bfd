"""Python's own sockets, judged by an audit hook: whatever library uses them, in every thread and event loop.

An audit hook cannot be removed. This one is added once in a process, with the first session that is guarded, and lets
everything through when no session is. What makes its system calls in C is not seen: uvloop, c-ares, gRPC; nor are
child processes that are not forks.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

from pratique.testkit.errors import NetworkBlockedError
from pratique.testkit.guard.watch import current_guard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pratique.testkit.guard.watch import Guard

__all__ = ["judge_event", "watch_sockets"]

_EVENTS: Final = frozenset(
    {
        "socket.connect",
        "socket.sendto",
        "socket.sendmsg",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.gethostbyaddr",
        "socket.getnameinfo",
    }
)
_WITH_ADDRESS: Final = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_REVERSE: Final = frozenset({"socket.gethostbyaddr", "socket.getnameinfo"})
"""They ask for the name of an address: the question itself goes to a server of the network that the address is in."""
_added: Final[list[bool]] = []


def _hook(event: str, args: tuple[Any, ...], watched: frozenset[str] = _EVENTS) -> None:
    # Called for every import, open and id() of the process: nothing may stand before this line.
    if event in watched and (guard := current_guard()) is not None:
        judge_event(guard, event, args)


def judge_event(guard: Guard, event: str, args: tuple[Any, ...]) -> None:
    """Judge one audit event.

    Raises:
        NetworkBlockedError: it leads away from this machine, and that is not allowed.
    """
    if event in _REVERSE:
        guard.judge_reverse(_text(args[0][0] if isinstance(args[0], tuple) and args[0] else args[0]))
        return
    if event not in _WITH_ADDRESS:
        guard.judge_name(_text(args[0]))
        return
    sock, address = args[0], args[1]
    # Without an address it is a datagram on a socket whose connection was judged.
    if sock.family in {socket.AF_INET, socket.AF_INET6} and isinstance(address, tuple) and address:
        try:
            guard.judge_address(_text(address[0]), address[1] if len(address) > 1 else "")
        except NetworkBlockedError:
            # After anything but an OSError callers leave the socket open; and an OSError they would try again.
            if event == "socket.connect":
                sock.close()
            raise


def _text(host: object) -> str:
    if isinstance(host, bytes | bytearray):
        return host.decode("ascii", "replace")
    return host if isinstance(host, str) else ""


@contextlib.contextmanager
def watch_sockets() -> Iterator[None]:
    """Have the hook. It asks the guard on top, as long as there is one."""
    if not _added:
        _added.append(True)
        sys.addaudithook(_hook)
    yield
