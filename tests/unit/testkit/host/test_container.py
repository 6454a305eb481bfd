"""A container's life, on an engine in this process; the real one is in the integration tests."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pratique.testkit.errors import ServiceStartError
from pratique.testkit.host import container
from pratique.testkit.host.container import ContainerServer, sweep
from pratique.testkit.host.launch import ContainerLaunch, TcpReady
from pratique.testkit.host.ownership import this_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pratique.testkit.host.driver import ContainerSpec

pytestmark = pytest.mark.unit

_SECONDS = 5.0


class FakeDriver:
    """A container is a socket that listens, and a log that ends when it is killed."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.did: list[str] = []
        self.images: list[str] = []
        self.specs: list[ContainerSpec] = []
        self.start_errors: list[str] = []
        self.image_error = ""
        self.listens = True
        self.dies = False
        self.waits_for = threading.Event()
        self.waits_for.set()
        self.started = threading.Event()
        self._ended = threading.Event()
        self._listener: socket.socket | None = None

    def require_image(self, image: str) -> None:
        if self.image_error:
            raise ServiceStartError(self.image_error)
        self.images.append(image)

    def start(self, spec: ContainerSpec) -> None:
        self.specs.append(spec)
        self.started.set()
        assert self.waits_for.wait(_SECONDS)
        if self.start_errors:
            raise ServiceStartError(self.start_errors.pop(0))
        self.end()
        self._ended = threading.Event()
        if self.listens:
            self._listener = socket.socket()
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(("127.0.0.1", spec.host_port))
            self._listener.listen()
        if self.dies:
            self.end()

    def follow(self) -> Iterator[bytes]:
        yield b"hello\n"
        self._ended.wait(_SECONDS)
        if self.dies:
            raise ServiceStartError("the log broke off")

    def pause(self) -> None:
        self.did.append("pause")

    def resume(self) -> None:
        self.did.append("resume")

    def kill(self) -> None:
        self.did.append("kill")
        self.end()

    def exit_code(self) -> int:
        return 3

    def end(self) -> None:
        self._ended.set()
        if self._listener is not None:
            self._listener.close()
            self._listener = None


class Rig:
    """A server of the back end and its parts."""

    def __init__(self, engine: Any, folder: Path, *, start_seconds: float = _SECONDS) -> None:
        self.engine = engine
        self.driver = FakeDriver(engine.address)
        launch = ContainerLaunch(image="img:1", port=80, ready=TcpReady(), start_seconds=start_seconds)
        make: Callable[[str], Any] = lambda _: self.driver  # noqa: E731 - a factory, not worth a name
        self.server = ContainerServer("svc", launch, folder=folder, make_driver=make)

    async def until(self, is_true: Callable[[], bool]) -> None:
        async with asyncio.timeout(_SECONDS):
            while not is_true():  # noqa: ASYNC110 - threads set no asyncio event
                await asyncio.sleep(0.002)


@pytest.fixture
def rig(fake_engine: Any, tmp_path: Path) -> Iterator[Rig]:
    made = Rig(fake_engine, tmp_path / "svc")
    yield made
    made.driver.waits_for.set()
    made.server.abandon()
    made.driver.end()


async def test_started_container_is_on_the_reserved_port_with_our_label(rig: Rig) -> None:
    running = await rig.server.start()
    spec = rig.driver.specs[0]
    assert (running.host, running.port, running.pid) == ("127.0.0.1", spec.host_port, 0)
    assert spec.owner == this_process().label()
    assert spec.name.startswith("pratique-svc-")
    assert rig.driver.images == ["img:1"]
    assert rig.server.is_alive()
    await rig.until(lambda: rig.server.tail(5) == "hello")


async def test_stopped_container_is_removed_and_its_port_is_free(rig: Rig) -> None:
    running = await rig.server.start()
    await rig.server.stop()
    assert rig.engine.removed == [rig.driver.specs[0].name]
    rig.driver.end()
    with socket.socket() as other:
        other.bind(("127.0.0.1", running.port))


async def test_port_that_is_taken_is_tried_again_with_another(rig: Rig) -> None:
    rig.driver.start_errors = ["Bind for 127.0.0.1:1 failed: port is already allocated"]
    await rig.server.start()
    first, second = rig.driver.specs
    assert first.name != second.name
    assert rig.engine.removed == [first.name]


async def test_container_that_the_engine_refuses_is_tried_once(rig: Rig) -> None:
    rig.driver.start_errors = ["no such runtime", "again"]
    with pytest.raises(ServiceStartError, match="no such runtime") as caught:
        await rig.server.start()
    assert caught.value.hint == "The image was: img:1"
    assert len(rig.driver.specs) == 1


async def test_start_error_is_not_hidden_by_a_removal_that_fails(rig: Rig) -> None:
    rig.driver.start_errors = ["no such runtime"]
    rig.engine.delete_status = 500
    with pytest.raises(ServiceStartError, match=r"no such runtime The container pratique-svc-\w+ could not be removed"):
        await rig.server.start()


async def test_container_that_ends_is_told_with_its_exit_code_and_log(rig: Rig) -> None:
    rig.driver.listens, rig.driver.dies = False, True
    with pytest.raises(ServiceStartError, match=r"(?s)svc ended with exit code 3.*hello.*the log broke off"):
        await rig.server.start()
    assert rig.engine.removed == [rig.driver.specs[0].name]


async def test_container_that_never_gets_ready_is_told(fake_engine: Any, tmp_path: Path) -> None:
    rig = Rig(fake_engine, tmp_path, start_seconds=0.1)
    rig.driver.listens = False
    with pytest.raises(ServiceStartError, match=r"svc was not ready after 0.1 s"):
        await rig.server.start()
    rig.driver.end()


async def test_missing_image_starts_nothing(rig: Rig) -> None:
    rig.driver.image_error = "the image img:1 could not be fetched"
    with pytest.raises(ServiceStartError, match="could not be fetched"):
        await rig.server.start()
    assert rig.driver.specs == []


async def test_engine_that_is_gone_is_a_start_error(rig: Rig) -> None:
    rig.engine.ping_status = 500
    with pytest.raises(ServiceStartError, match="no container engine answers"):
        await rig.server.start()


async def test_killed_container_is_dead_at_once_and_restarts_on_its_port(rig: Rig) -> None:
    running = await rig.server.start()
    assert await rig.server.act("kill") is None
    assert not rig.server.is_alive()
    again = await rig.server.act("restart")
    assert again is not None
    assert again.port == running.port
    first, second = rig.driver.specs
    assert rig.engine.removed == [first.name]
    assert second.name != first.name


async def test_pause_and_resume_are_the_engines(rig: Rig) -> None:
    await rig.server.start()
    await rig.server.act("pause")
    await rig.server.act("resume")
    assert rig.driver.did == ["pause", "resume"]


async def test_unknown_action_is_refused(rig: Rig) -> None:
    await rig.server.start()
    with pytest.raises(ServiceStartError, match="got 'explode'"):
        await rig.server.act("explode")


async def test_server_that_was_never_started_has_nothing_to_act_on_or_remove(rig: Rig) -> None:
    with pytest.raises(ServiceStartError, match="was not started"):
        await rig.server.act("kill")
    await rig.server.stop()
    rig.server.abandon()
    assert not rig.server.is_alive()
    assert rig.engine.removed == []


async def test_container_whose_start_is_under_way_is_removed_when_it_is_stopped(rig: Rig) -> None:
    rig.driver.waits_for.clear()
    async with asyncio.timeout(_SECONDS):
        starting = asyncio.create_task(rig.server.start())
        await rig.until(rig.driver.started.is_set)
        stopping = asyncio.create_task(rig.server.stop())
        await asyncio.sleep(0)
        rig.driver.waits_for.set()
        await stopping
        with pytest.raises(ServiceStartError, match="stopped before it was ready"):
            await starting
    assert rig.driver.specs[0].name in rig.engine.removed
    assert not rig.server.is_alive()


async def test_abandoned_container_is_removed_at_once(rig: Rig) -> None:
    await rig.server.start()
    rig.server.abandon()
    assert rig.engine.removed == [rig.driver.specs[0].name]


async def test_abandoning_does_not_wait_for_an_engine_that_hangs(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(container, "_ABANDON_SECONDS", 0.1)
    rig.driver.waits_for.clear()
    starting = asyncio.create_task(rig.server.start())
    await rig.until(rig.driver.started.is_set)
    rig.engine.delete_status = 500
    began = time.monotonic()
    await asyncio.to_thread(rig.server.abandon)
    assert time.monotonic() - began < 2
    assert "could not be removed" in capsys.readouterr().err
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting


async def test_container_that_cannot_be_removed_is_told(rig: Rig) -> None:
    await rig.server.start()
    rig.engine.delete_status = 500
    with pytest.raises(ServiceStartError, match="could not be removed"):
        await rig.server.stop()


async def test_engine_that_hangs_is_told_within_its_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.server.start()
    monkeypatch.setattr(container, "_ACT_SECONDS", 0.05)
    hangs = threading.Event()
    monkeypatch.setattr(rig.driver, "pause", lambda: hangs.wait(_SECONDS))
    with pytest.raises(ServiceStartError, match="did not answer within"):
        await rig.server.act("pause")
    hangs.set()
    await asyncio.sleep(0.01)  # the late answer is for nobody


def test_sweep_removes_containers_of_the_dead_only(fake_engine: Any) -> None:
    me = this_process()
    dead = me.label().replace(f"/{me.pid}/", f"/{2**30}/")
    fake_engine.containers = {"mine": me.label(), "dead": dead, "strange": "x"}
    sweep(fake_engine.address)
    assert fake_engine.removed == ["dead"]


def test_sweep_that_fails_is_told_and_does_not_stop_the_run(
    fake_engine: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_engine.list_body = b"nonsense"
    sweep(fake_engine.address)
    assert "could not be removed" in capsys.readouterr().err
