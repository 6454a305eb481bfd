"""The control socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pratique.fleet.errors import SupervisorLostError, UnknownServiceError
from pratique.fleet.stack.control import ControlClient, ControlServer, Request, _short

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


def answer(request: Request) -> dict[str, Any]:
    if request.service == "nobody":
        raise UnknownServiceError("'nobody' is no service.", hint="There is edge.")
    return {"said": request.command}


async def say(path: Path, line: bytes) -> dict[str, Any]:
    with _short(path) as short:
        reader, writer = await asyncio.open_unix_connection(short)
    writer.write(line)
    writer.write_eof()
    found = msgspec.json.decode(await reader.read(), type=dict[str, Any])
    writer.close()
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    # Longer than a socket's path may be.
    folder = tmp_path / ("a" * 120)
    folder.mkdir()
    return folder / "supervisor.sock"


async def test_request_is_answered(path: Path) -> None:
    async with ControlServer(path, answer):
        assert await ControlClient(path).ask("status") == {"version": 1, "ok": True, "said": "status"}
        assert path.stat().st_mode & 0o077 == 0  # noqa: ASYNC240 - a test


async def test_refusal_comes_with_its_hint(path: Path) -> None:
    async with ControlServer(path, answer):
        with pytest.raises(SupervisorLostError, match="'nobody' is no service") as refused:
            await ControlClient(path).ask("restart", service="nobody")
        assert refused.value.hint == "There is edge."


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[1]\n",
        b'{"version":2,"command":"status"}\n',
        b'{"version":1,"command":"explode"}\n',
        b"\xff\n",
    ],
)
async def test_malformed_request_is_refused_and_the_server_lives(path: Path, line: bytes) -> None:
    async with ControlServer(path, answer):
        refused = await say(path, line)
        assert (refused["ok"], refused["error"]["code"]) == (False, "invalid_request")
        assert (await ControlClient(path).ask("status"))["ok"]


async def test_line_without_end_is_cut(path: Path) -> None:
    async with ControlServer(path, answer):
        with pytest.raises((msgspec.DecodeError, ConnectionError)):
            await say(path, b"x" * (2 << 20))
        assert (await ControlClient(path).ask("status"))["ok"]


async def test_stop_returns_when_the_supervisor_has_ended(path: Path) -> None:
    async with ControlServer(path, answer):
        stopping = asyncio.create_task(ControlClient(path).stop(within_seconds=5))
        await asyncio.sleep(0.02)
        assert not stopping.done()
    await stopping


async def test_stop_that_takes_too_long_is_said(path: Path) -> None:
    async with ControlServer(path, answer):
        with pytest.raises(SupervisorLostError, match="has not stopped"):
            await ControlClient(path).stop(within_seconds=0.01)


async def test_nobody_there(path: Path) -> None:
    for client in (ControlClient(path), ControlClient(path / "deeper" / "x.sock")):
        with pytest.raises(SupervisorLostError, match="does not answer"):
            await client.ask("status")


@pytest.mark.parametrize("said", [b"", b"nonsense\n", b"[]\n"])
async def test_something_else_answers(path: Path, said: bytes) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(said)
        writer.close()

    with _short(path) as short:
        server = await asyncio.start_unix_server(reply, short)
    async with server:
        with pytest.raises(SupervisorLostError):
            await ControlClient(path).ask("status")
