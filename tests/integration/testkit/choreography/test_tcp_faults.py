"""Faulty connections, in front of plain socket servers of the test's own."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pratique.testkit.choreography.tcp import TcpFaults
from pratique.testkit.errors import TargetUnreachableError, TestkitUsageError
from pratique.testkit.ports import reserved_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pratique.testkit.choreography.tcp import TcpProxy

pytestmark = pytest.mark.integration

WAIT_SECONDS = 20.0


class Server:
    """Runs `serve(connection)` in a thread for each connection, on a port of its own."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address = self._listener.getsockname()
        self.connections: list[socket.socket] = []
        self.ends: list[str] = []
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(WAIT_SECONDS)
                self.connections.append(connection)
                self._threads.append(threading.Thread(target=self._hold, args=(connection,)))
                self._threads[-1].start()

    def _hold(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._serve(connection)
            self.ends.append("end")
        except OSError as error:
            self.ends.append(type(error).__name__)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in [self._acceptor, *self._threads]:
            thread.join(WAIT_SECONDS)


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def answer_at_the_end(connection: socket.socket) -> None:
    """Answer with the number of bytes, when the client has said that there are no more."""
    total = 0
    while data := connection.recv(65536):
        total += len(data)
    connection.sendall(str(total).encode())


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    with contextlib.ExitStack() as stack:

        def start(work: Callable[[socket.socket], None]) -> Server:
            server = Server(work)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def faults() -> Iterator[TcpFaults]:
    with TcpFaults() as faults:
        yield faults


@pytest.fixture
def proxy(faults: TcpFaults, serve: Callable[..., Server]) -> TcpProxy:
    return faults(serve(echo).address)


def connect(proxy: TcpProxy, timeout: float = WAIT_SECONDS) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=timeout)


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def read_until_reset(connection: socket.socket) -> bytes:
    got = b""
    try:
        while data := connection.recv(65536):
            got += data
    except ConnectionResetError:
        return got
    pytest.fail(f"ended without a reset, after {len(got)} bytes")


def read_exactly(connection: socket.socket, size: int) -> bytes:
    with connection.makefile("rb") as file:
        return file.read(size)


def ask(connection: socket.socket, data: bytes = b"ping") -> bytes:
    connection.sendall(data)
    return read_exactly(connection, len(data))


def wait_for(check: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while not check():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)


class TestWithoutFaults:
    def test_50_megabytes_come_through_both_ways_unchanged(self, proxy: TcpProxy) -> None:
        data = os.urandom(50_000_000)
        with connect(proxy) as connection, ThreadPoolExecutor(1) as pool:
            sent = pool.submit(connection.sendall, data)
            assert read_exactly(connection, len(data)) == data
            sent.result()
        wait_for(lambda: proxy.tally.open == 0)
        assert (proxy.tally.bytes_up, proxy.tally.bytes_down) == (len(data), len(data))

    def test_a_half_close_reaches_the_target_and_the_answer_still_comes(
        self, faults: TcpFaults, serve: Callable[..., Server]
    ) -> None:
        proxy = faults(serve(answer_at_the_end).address)
        with connect(proxy) as connection:
            connection.sendall(b"x" * 100_000)
            connection.shutdown(socket.SHUT_WR)
            assert read_all(connection) == b"100000"

    def test_200_connections_at_once_are_all_served(self, proxy: TcpProxy) -> None:
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(connect(proxy)) for _ in range(200)]
            for number, connection in enumerate(connections):
                connection.sendall(f"{number:04}".encode())
            assert [read_exactly(one, 4) for one in connections] == [f"{n:04}".encode() for n in range(200)]
            assert (proxy.tally.connections, proxy.tally.open) == (200, 200)
        wait_for(lambda: proxy.tally.open == 0)
        assert proxy.tally.resets == 0

    def test_a_reader_that_stops_also_stops_the_writer(self, faults: TcpFaults, serve: Callable[..., Server]) -> None:
        sent = []

        def flood(connection: socket.socket) -> None:
            connection.settimeout(0.5)
            while True:
                sent.append(connection.send(b"x" * 65536))

        server = serve(flood)
        proxy = faults(server.address, probe_seconds=None)
        with connect(proxy):
            wait_for(lambda: "TimeoutError" in server.ends)
        assert sum(sent) < 50_000_000

    @pytest.mark.parametrize("free", [0, 1])
    def test_a_process_out_of_file_descriptors_serves_again_when_it_has_some(self, proxy: TcpProxy, free: int) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert proxy.tally.open == 0
        with socket.socket() as client:
            client.settimeout(WAIT_SECONDS)
            highest = max(int(file.name) for file in Path("/proc/self/fd").iterdir())
            fillers = [os.dup(client.fileno()) for _ in range(highest)]
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(fillers) + 1, hard))
            for filler in fillers[:free]:
                os.close(filler)
            try:
                client.connect((proxy.host, proxy.port))
                time.sleep(0.15)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for filler in fillers[free:]:
                    os.close(filler)
            if free:  # it had been accepted, and there was no socket for the way to the target
                assert client.recv(1) == b""
            else:
                assert ask(client) == b"ping"
        with connect(proxy) as again:
            assert ask(again) == b"ping"

    def test_two_proxies_of_one_test_have_faults_of_their_own(
        self, faults: TcpFaults, serve: Callable[..., Server]
    ) -> None:
        address = serve(echo).address
        broken, whole = faults(address), faults(address)
        broken.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(broken)
        with connect(whole) as connection:
            assert ask(connection) == b"ping"


class TestLatency:
    def test_one_way_is_late_by_as_much(self, proxy: TcpProxy) -> None:
        with connect(proxy) as connection, proxy.latency(0.2, direction="down"):
            started = time.monotonic()
            assert ask(connection) == b"ping"
            assert 0.19 < time.monotonic() - started < 5

    def test_both_ways_add_up(self, proxy: TcpProxy) -> None:
        proxy.latency(0.15)
        with connect(proxy) as connection:
            started = time.monotonic()
            assert ask(connection) == b"ping"
            assert 0.29 < time.monotonic() - started < 5

    def test_a_delay_line_does_not_take_throughput_away(self, proxy: TcpProxy) -> None:
        data = os.urandom(6_000_000)
        proxy.latency(0.3)
        with connect(proxy) as connection, ThreadPoolExecutor(1) as pool:
            started = time.monotonic()
            pool.submit(connection.sendall, data)
            assert read_exactly(connection, len(data)) == data
            # A hundred chunks: had each waited for the one before, this would take half a minute.
            assert time.monotonic() - started < 10

    def test_jitter_keeps_the_order(self, proxy: TcpProxy) -> None:
        proxy.latency(0.02, jitter=0.02)
        with connect(proxy) as connection:
            words = [f"{number:03}".encode() for number in range(40)]
            for word in words:
                connection.sendall(word)
                time.sleep(0.001)
            assert read_exactly(connection, 120) == b"".join(words)

    def test_what_is_under_way_arrives_when_healed(self, proxy: TcpProxy) -> None:
        proxy.latency(60)
        with connect(proxy) as connection:
            connection.sendall(b"ping")
            time.sleep(0.05)
            proxy.heal()
            assert read_exactly(connection, 4) == b"ping"

    def test_an_end_of_stream_is_as_late_as_the_bytes_before_it(
        self, faults: TcpFaults, serve: Callable[..., Server]
    ) -> None:
        proxy = faults(serve(answer_at_the_end).address)
        proxy.latency(0.1)
        with connect(proxy) as connection:
            connection.sendall(b"x" * 1000)
            connection.shutdown(socket.SHUT_WR)
            assert read_all(connection) == b"1000"


class TestBandwidth:
    def test_bytes_come_no_faster_than_asked(self, proxy: TcpProxy) -> None:
        with connect(proxy) as connection, proxy.bandwidth(100_000, direction="down"):
            started = time.monotonic()
            assert len(ask(connection, b"x" * 50_000)) == 50_000
            assert 0.35 < time.monotonic() - started < 10

    def test_a_lifted_limit_is_felt_at_once(self, proxy: TcpProxy) -> None:
        with connect(proxy) as connection:
            with proxy.bandwidth(0.01):
                connection.sendall(b"x" * 1000)
                time.sleep(0.05)
            assert read_exactly(connection, 1000) == b"x" * 1000


class TestReset:
    def test_open_connections_are_reset_at_both_ends(self, faults: TcpFaults, serve: Callable[..., Server]) -> None:
        server = serve(echo)
        proxy = faults(server.address, probe_seconds=None)
        with connect(proxy) as one, connect(proxy) as other:
            assert ask(one) == ask(other) == b"ping"
            assert proxy.reset() == 2
            for connection in (one, other):
                with pytest.raises(ConnectionResetError):
                    connection.recv(1)
            wait_for(lambda: server.ends == ["ConnectionResetError"] * 2)
        with connect(proxy) as connection:
            assert ask(connection) == b"ping"
        assert proxy.tally.resets == 2

    def test_no_open_connection_is_none_to_reset(self, proxy: TcpProxy) -> None:
        assert proxy.reset() == 0

    @pytest.mark.parametrize("size", [1, 1000, 70_000])
    def test_a_connection_is_cut_after_exactly_so_many_bytes(self, proxy: TcpProxy, size: int) -> None:
        proxy.reset(after_bytes=size)
        with connect(proxy) as connection, ThreadPoolExecutor(1) as pool:
            pool.submit(connection.sendall, b"x" * 200_000)
            got = read_until_reset(connection)
        assert len(got) == size
        assert proxy.tally.bytes_down == size

    def test_after_no_bytes_the_answer_is_a_reset(self, proxy: TcpProxy) -> None:
        with connect(proxy) as connection, proxy.reset(after_bytes=0):
            connection.sendall(b"ping")
            with pytest.raises(ConnectionResetError):
                connection.recv(1)

    def test_an_open_connection_counts_from_now(self, proxy: TcpProxy) -> None:
        with connect(proxy) as connection:
            assert ask(connection) == b"ping"
            with proxy.reset(after_bytes=6):
                assert ask(connection) == b"ping"
            assert ask(connection, b"long after the block") == b"long after the block"

    def test_a_client_that_dies_is_seen_by_the_target(self, faults: TcpFaults, serve: Callable[..., Server]) -> None:
        server = serve(echo)
        proxy = faults(server.address, probe_seconds=None)
        connection = connect(proxy)
        assert ask(connection) == b"ping"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
        wait_for(lambda: server.ends == ["ConnectionResetError"])

    def test_a_target_that_dies_is_seen_by_the_client(self, faults: TcpFaults, serve: Callable[..., Server]) -> None:
        def die(connection: socket.socket) -> None:
            connection.recv(1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        proxy = faults(serve(die).address, probe_seconds=None)
        with connect(proxy) as connection:
            connection.sendall(b"x")
            with pytest.raises(ConnectionResetError):
                connection.recv(1)


class TestBlackhole:
    def test_a_client_that_waits_times_out(self, proxy: TcpProxy) -> None:
        with connect(proxy, timeout=0.2) as connection:
            assert ask(connection) == b"ping"
            proxy.blackhole()
            connection.sendall(b"ping")
            with pytest.raises(TimeoutError):
                connection.recv(1)
        assert proxy.tally.bytes_lost >= 4

    def test_a_new_connection_is_accepted_and_large_requests_swallowed(
        self, faults: TcpFaults, serve: Callable[..., Server]
    ) -> None:
        server = serve(echo)
        proxy = faults(server.address, probe_seconds=None)
        with proxy.blackhole(), connect(proxy) as connection:
            connection.sendall(b"x" * 20_000_000)
            wait_for(lambda: proxy.tally.bytes_lost == 20_000_000)
            assert not server.connections

    def test_a_connection_that_lost_bytes_is_reset_afterwards(self, proxy: TcpProxy) -> None:
        with connect(proxy) as connection:
            with proxy.blackhole():
                connection.sendall(b"ping")
                wait_for(lambda: proxy.tally.bytes_lost == 4)
            with pytest.raises(ConnectionResetError):
                connection.recv(1)

    def test_a_connection_that_lost_nothing_goes_on_afterwards(self, proxy: TcpProxy) -> None:
        with connect(proxy) as before:
            with proxy.blackhole():
                within = connect(proxy)
            with within:
                assert ask(before) == ask(within) == b"ping"

    def test_down_only_lets_the_request_through(self, faults: TcpFaults, serve: Callable[..., Server]) -> None:
        got = threading.Event()

        def take(connection: socket.socket) -> None:
            if connection.recv(4):
                got.set()
                connection.sendall(b"done")
                connection.recv(1)

        proxy = faults(serve(take).address)
        with proxy.blackhole(direction="down"), connect(proxy, timeout=0.2) as connection:
            connection.sendall(b"ping")
            assert got.wait(WAIT_SECONDS)
            with pytest.raises(TimeoutError):
                connection.recv(1)

    def test_a_client_that_gives_up_is_not_seen_by_the_target(
        self, faults: TcpFaults, serve: Callable[..., Server]
    ) -> None:
        server = serve(echo)
        proxy = faults(server.address, probe_seconds=None)
        with connect(proxy) as connection:
            assert ask(connection) == b"ping"
            proxy.blackhole()
        time.sleep(0.1)
        assert not server.ends
        proxy.heal()
        wait_for(lambda: server.ends == ["ConnectionResetError"])
        assert proxy.tally.open == 0


class TestRefuse:
    def test_new_connections_are_refused_and_open_ones_go_on(self, proxy: TcpProxy) -> None:
        with connect(proxy) as connection:
            with proxy.refuse():
                with pytest.raises(ConnectionRefusedError):
                    connect(proxy)
                assert ask(connection) == b"ping"
            with connect(proxy) as another:
                assert ask(another) == b"ping"


class TestTargets:
    def test_a_target_that_is_not_there_is_an_error(self, faults: TcpFaults) -> None:
        with reserved_port() as port, pytest.raises(TargetUnreachableError, match=str(port)):
            faults(("127.0.0.1", port))

    def test_connections_are_reset_while_the_target_is_away(self, faults: TcpFaults) -> None:
        with reserved_port() as port:
            proxy = faults(f"127.0.0.1:{port}", probe_seconds=None)
            with pytest.raises(ConnectionResetError), connect(proxy) as connection:  # perhaps while it connects
                connection.recv(1)
            wait_for(lambda: proxy.tally.open == 0)
            assert (proxy.tally.unreachable, proxy.tally.resets) == (1, 1)


class TestSwitches:
    def test_faults_nest_and_each_undoes_its_own(self, proxy: TcpProxy) -> None:
        with connect(proxy) as connection, proxy.latency(0.15, direction="down"):
            with proxy.latency(60, direction="down"), proxy.bandwidth(1000):
                pass
            started = time.monotonic()
            assert ask(connection) == b"ping"
            assert 0.14 < time.monotonic() - started < 5

    def test_bad_input_changes_nothing(self, proxy: TcpProxy) -> None:
        wrongs: tuple[Callable[[], object], ...] = (
            lambda: proxy.latency(-1),
            lambda: proxy.latency(1, jitter=-1),
            lambda: proxy.bandwidth(0),
            lambda: proxy.reset(after_bytes=-1),
            lambda: proxy.blackhole(direction="left"),  # type: ignore[arg-type]  # that is the test
        )
        for wrong in wrongs:
            with pytest.raises(TestkitUsageError):
                wrong()
        with connect(proxy) as connection:
            assert ask(connection) == b"ping"

    def test_a_closed_proxy_says_so(self, serve: Callable[..., Server]) -> None:
        with TcpFaults() as faults:
            proxy = faults(serve(echo).address)
        uses: tuple[Callable[[], object], ...] = (proxy.heal, proxy.reset, lambda: proxy.tally)
        for use in uses:
            with pytest.raises(TestkitUsageError, match="closed"):
                use()
        with pytest.raises(TestkitUsageError, match="closed"):
            faults(("127.0.0.1", proxy.port), probe_seconds=None)
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        faults.close()
