"""What the host decides where requests cross: nothing that was stopped comes back, the first failure is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pratique.testkit.errors import ServiceStartError
from pratique.testkit.host.launch import Ensure, Failure, Ok, ProcessLaunch, Running, Signal, Stop, TcpReady
from pratique.testkit.host.supervisor import Host

if TYPE_CHECKING:
    from pathlib import Path

    from pratique.testkit.host.launch import Launch

pytestmark = pytest.mark.unit

LAUNCH = ProcessLaunch(command=("x",), ready=TcpReady())


class FakeServer:
    """Starts at once; stops when it is let."""

    def __init__(self, key: str, number: int) -> None:
        self.key = key
        self.number = number
        self.events: list[str] = []
        self.may_stop = asyncio.Event()
        self.start_error: Exception | None = None
        self.stop_error: Exception | None = None

    async def start(self) -> Running:
        self.events.append("start")
        if self.start_error:
            raise self.start_error
        return Running(key=self.key, host="", port=1, pid=self.number, folder="", log="", start_seconds=0)

    async def stop(self) -> None:
        if self.stop_error:
            raise self.stop_error
        await self.may_stop.wait()
        self.events.append("stop")

    def abandon(self) -> None: ...

    def is_alive(self) -> bool:
        return self.events[-1:] == ["start"]

    async def act(self, action: str) -> Running | None:
        self.events.append(action)
        return None

    def tail(self, lines: int) -> str:
        return str(lines)


class FakeHost(Host):
    """Its servers are numbered."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, {})
        self.made: list[FakeServer] = []
        self.start_error: Exception | None = None
        self.stop_error: Exception | None = None

    def _make(self, key: str, launch: Launch) -> FakeServer:
        assert launch == LAUNCH
        server = FakeServer(key, len(self.made))
        server.start_error, server.stop_error = self.start_error, self.stop_error
        self.made.append(server)
        return server


async def test_start_that_waits_for_a_stop_gets_a_new_server(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    await host.answer(Ensure(key="a", launch=LAUNCH))
    stopping = asyncio.ensure_future(host.answer(Stop(key="a")))
    await asyncio.sleep(0)
    asking = [asyncio.ensure_future(host.answer(Ensure(key="a", launch=LAUNCH))) for _ in range(3)]
    await asyncio.sleep(0)
    host.made[0].may_stop.set()
    assert await stopping == Ok()
    answers = await asyncio.gather(*asking)
    assert host.made[0].events == ["start", "stop"]
    assert [answer.pid for answer in answers if isinstance(answer, Running)] == [1, 1, 1]
    assert host.made[1].events == ["start"]


@pytest.mark.parametrize("request_", [Signal(key="a", action="restart"), Stop(key="a")], ids=["restart", "stop"])
async def test_whatever_waits_for_a_stop_does_not_touch_what_was_stopped(
    tmp_path: Path, request_: Signal | Stop
) -> None:
    host = FakeHost(tmp_path)
    await host.answer(Ensure(key="a", launch=LAUNCH))
    stopping = asyncio.ensure_future(host.answer(Stop(key="a")))
    await asyncio.sleep(0)
    asking = asyncio.ensure_future(host.answer(request_))
    await asyncio.sleep(0)
    host.made[0].may_stop.set()
    await stopping
    answer = await asking
    assert isinstance(answer, Failure)
    assert answer.message == "There is no server 'a'."
    assert host.made[0].events == ["start", "stop"]


@pytest.mark.parametrize("second", [ServiceStartError("cannot be removed"), OSError("no")], ids=["ours", "another"])
async def test_failed_start_is_told_also_where_its_end_fails_too(
    tmp_path: Path, second: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    host = FakeHost(tmp_path)
    host.start_error, host.stop_error = ServiceStartError("the cause", hint="look"), second
    assert await host.answer(Ensure(key="a", launch=LAUNCH)) == Failure(message="the cause", hint="look")
    assert str(second) in capsys.readouterr().err
    host.start_error = None
    assert isinstance(await host.answer(Ensure(key="a", launch=LAUNCH)), Running)
