"""The thread of the TCP proxies when it does not get to its work."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pratique.testkit.choreography import tcp
from pratique.testkit.choreography.tcp import TcpFaults
from pratique.testkit.errors import ProxyStuckError

pytestmark = pytest.mark.unit


def test_a_call_that_takes_too_long_is_cancelled_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    async def take_long() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    with TcpFaults() as faults:
        faults(("127.0.0.1", 1), probe_seconds=None)
        monkeypatch.setattr(tcp, "_CALL_SECONDS", 0.05)
        with pytest.raises(ProxyStuckError, match=r"has not answered within 0\.05 s"):
            faults._loop.call(take_long())
        monkeypatch.undo()
        assert ended.wait(5)


def test_a_thread_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "_CALL_SECONDS", 0.05)
    monkeypatch.setattr(tcp._LoopThread, "_serve", lambda self, started: None)
    faults = TcpFaults()
    with pytest.raises(ProxyStuckError, match="thread of the TCP proxies"):
        faults(("127.0.0.1", 1), probe_seconds=None)
    faults.close()
