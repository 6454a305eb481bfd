"""Proxies end with their test, and leave nobody behind: no thread, no socket, no child that holds a connection."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pratique.testkit.choreography.tcp import TcpFaults
from pratique.testkit.errors import TestkitUsageError
from pratique.testkit.timing import eventually

if TYPE_CHECKING:
    from pratique.testkit.choreography.tcp import TcpProxy
    from pratique.testkit.services.valkey import ValkeyEndpoint

pytestmark = pytest.mark.integration

WAIT_SECONDS = 20.0
PING = b"PING\r\n"
PONG = b"+PONG\r\n"


def connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=WAIT_SECONDS)


def ask(connection: socket.socket) -> bytes:
    connection.sendall(PING)
    with connection.makefile("rb") as file:
        return file.read(len(PONG))


def count_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_no_thread_or_socket_stays_behind(pratique_valkey: ValkeyEndpoint) -> None:
    before = count_files()
    with TcpFaults() as faults:
        proxy = faults(pratique_valkey)
        proxy.blackhole()
        stuck = connect(proxy)
        proxy.heal()
        open_one = connect(proxy)
        proxy.latency(60)
        open_one.sendall(b"under way")
    for connection in (stuck, open_one):
        connection.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "pratique-tcp-faults"]
    assert eventually(lambda: count_files() <= before, within=WAIT_SECONDS)


def test_an_unused_factory_starts_nothing() -> None:
    before = threading.active_count()
    with TcpFaults():
        assert threading.active_count() == before


def test_it_works_while_the_test_runs_a_loop(tcp_faults: TcpFaults, pratique_valkey: ValkeyEndpoint) -> None:
    proxy = tcp_faults(pratique_valkey)

    async def talk() -> bytes:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        with proxy.latency(0.01):
            writer.write(PING)
            got = await reader.readexactly(len(PONG))
        writer.close()
        await writer.wait_closed()
        return got

    assert asyncio.run(talk()) == PONG


def test_a_forked_child_keeps_no_connection_open_and_breaks_none(
    tcp_faults: TcpFaults, pratique_valkey: ValkeyEndpoint
) -> None:
    proxy = tcp_faults(pratique_valkey)
    with connect(proxy) as connection:
        assert ask(connection) == PONG
        go_read, go_write = os.pipe()
        said_read, said_write = os.pipe()
        child = os.fork()
        if child == 0:  # pragma: no cover - another process
            word = b"-"
            try:
                proxy.heal()
            except TestkitUsageError:
                word = b"+"
            os.write(said_write, word)
            os.read(go_read, 1)
            os._exit(0)
        try:
            assert os.read(said_read, 1) == b"+"
            assert ask(connection) == PONG
            with proxy.refuse(), pytest.raises(ConnectionRefusedError):
                connect(proxy)
            proxy.reset()
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        finally:
            os.write(go_write, b"x")
            os.waitpid(child, 0)
            for end in (go_read, go_write, said_read, said_write):
                os.close(end)
