"""Whether a server is ready, and whose socket it is."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

import pytest

from pratique.testkit.host.launch import HttpReady, ProcessLaunch, Ready, RedisReady, TcpReady, key_of
from pratique.testkit.host.logs import read_tail, size_of
from pratique.testkit.host.probes import is_ready, listens
from pratique.testkit.host.remains import is_private, sweep

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("ready", "answer", "expected"),
    [
        (TcpReady(), b"", True),
        (RedisReady(), b"+PONG\r\n", True),
        (RedisReady(), b"-LOADING\r\n", False),
        (RedisReady(), b"", False),
        (HttpReady(), b"HTTP/1.1 200 OK\r\n\r\n", True),
        (HttpReady(statuses=(200, 404)), b"HTTP/1.1 404 Not Found\r\n\r\n", True),
        (HttpReady(), b"HTTP/1.1 503 Unavailable\r\n\r\n", False),
        (HttpReady(), b"HTTP/1.1 none\r\n", False),
        (HttpReady(), b"x" * 10_000, False),
        (HttpReady(), b"", False),
    ],
)
async def test_answer_decides(ready: Ready, answer: bytes, expected: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not isinstance(ready, TcpReady):
            await reader.readline()
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await is_ready("127.0.0.1", port, ready) is expected


async def test_nobody_there_is_not_ready() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert not await is_ready("127.0.0.1", bound.getsockname()[1], TcpReady())


def test_only_the_process_that_listens_is_the_owner() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert not listens(port, [os.getpid()])
        listener.listen()
        assert listens(port, [2**22 + 1, os.getpid()])
        assert not listens(port, [os.getppid(), 2**22 + 1])
        assert not listens(port, [])


def test_key_is_the_same_for_the_same_launch_only() -> None:
    def make(word: str) -> ProcessLaunch:
        return ProcessLaunch(command=(word,), ready=TcpReady())

    assert key_of("a", make("x")) == key_of("a", make("x"))
    assert len({key_of("a", make("x")), key_of("a", make("y")), key_of("b", make("x"))}) == 3
    assert len({key_of("a", make("x"), version) for version in ("", "1", "2")}) == 3


def test_tail_is_the_end_of_a_log_however_large_and_whatever_in_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert read_tail(log, 3) == ""
    log.write_bytes(b"x" * 1_000_000 + b"\n\xff\nlast\n")
    assert read_tail(log, 2) == "\ufffd\nlast"
    assert size_of(log) == log.stat().st_size
    assert read_tail(log, 2, since=size_of(log) - 3) == "st"
    assert read_tail(log, 2, since=size_of(log)) == ""
    assert read_tail(log, 2, since=size_of(log) + 1) == "\ufffd\nlast"


def test_private_folder_is_a_real_one_for_this_user_alone(tmp_path: Path) -> None:
    folder, link = tmp_path / "folder", tmp_path / "link"
    assert not is_private(folder)
    folder.mkdir(mode=0o700)
    link.symlink_to(folder)
    assert is_private(folder)
    assert not is_private(link)
    folder.chmod(0o750)
    assert not is_private(folder)


def test_sweep_of_an_empty_folder_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "other").mkdir()
    sweep("pratique-testkit-run-")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
