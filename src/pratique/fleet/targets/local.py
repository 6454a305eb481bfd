"""Releases on this machine: up to two at once, each a program of its own, behind one Envoy that shares the traffic.

A release runs by a command that names its digest: a container by `podman run …@{digest}`, or any program. There are two
slots; a release stays in its slot for life, and what moves is the weight. Every change brings the machine to the state
that is wanted, whatever state it is in, so a change that was interrupted is finished by the next:

1. start what is not running, in the free slot, and wait until it and Envoy say that it is ready;
2. give Envoy the new weights, and see that it has them: from here on new requests go where they should;
3. write the state down;
4. let what has no share finish its requests, for a while, and end it.

Nobody watches the programs between two commands: a stack that is supervised is `pratique up`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from pratique.core.settings import Settings
from pratique.fleet.edge import Affinity
from pratique.fleet.targets._accesslog import MAX_BYTES, read_tail, samples_of
from pratique.fleet.targets._envoy import TwoPools, get, wait_until
from pratique.fleet.targets._marked import MarkedPrograms
from pratique.fleet.targets.interface import Deployment, Health, TargetError, Window

__all__ = ["LocalSettings", "LocalTarget"]

_Slot = Literal["a", "b"]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
_Seconds = Annotated[float, msgspec.Meta(gt=0)]
_OTHER: Final[dict[_Slot, _Slot]] = {"a": "b", "b": "a"}
_OK: Final = 200
_PROBE_SECONDS: Final = 2.0
_FLUSH_SECONDS: Final = 0.6
"""Envoy writes its log down every half second."""


class LocalSettings(Settings, frozen=True, kw_only=True):
    """A local target. Ports are of the loopback interface."""

    folder: Path
    """Where it keeps its state and its logs."""
    command: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """What runs a release. {digest}, {port} and {slot} are put in; the program serves HTTP on that port."""
    port: _Port
    """Where clients come in."""
    admin_port: _Port
    """Envoy's own."""
    slot_ports: tuple[_Port, _Port]
    """Where the two releases serve."""
    name: str = "local"
    health_path: str = "/readyz"
    """A 200 there says that a release is ready."""
    environment: dict[str, str] = msgspec.field(default_factory=dict)
    """All that the programs get; nothing is inherited."""
    ready_seconds: _Seconds = 60.0
    drain_seconds: _Seconds = 44.0
    """How long a release that lost its traffic may finish what it has."""
    grace_seconds: _Seconds = 10.0
    """Between SIGTERM and SIGKILL."""
    lock_seconds: _Seconds = 150.0
    """How long another change of this target is waited for."""
    affinity_header: str = "x-pratique-affinity"
    affinity_cookie: str = "pratique_affinity"


class _State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What should run where."""

    live: _Slot | None = None
    digests: dict[str, str] = {}
    """By slot."""
    share: float = 0.0
    """Of the slot that is not live."""

    @property
    def stable(self) -> str | None:
        return self.digests.get(self.live) if self.live else None

    @property
    def candidate(self) -> str | None:
        return self.digests.get(_OTHER[self.live]) if self.live else None

    def weights(self) -> dict[str, float]:
        live = self.live or "a"
        return {slot: 1 - self.share if slot == live else self.share for slot in ("a", "b")}


class LocalTarget:
    """The local stack as a target. Safe to use from several processes: a change waits for the one before it."""

    def __init__(self, settings: LocalSettings) -> None:
        self._settings = settings
        folder = settings.folder.resolve()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._programs = MarkedPrograms(str(folder))
        self._ports: dict[str, int] = dict(zip(("a", "b"), settings.slot_ports, strict=True))
        self._edge = TwoPools(
            folder=folder,
            programs=self._programs,
            port=settings.port,
            admin_port=settings.admin_port,
            slot_ports=self._ports,
            health_path=settings.health_path,
            affinity=Affinity(header=settings.affinity_header, cookie=settings.affinity_cookie),
        )

    @property
    def name(self) -> str:
        """As the ledger calls it."""
        return self._settings.name

    def deployment(self) -> Deployment:
        """Say what runs."""
        state = self._load()
        return Deployment(state.stable, state.candidate, state.share)

    def start_canary(self, digest: str, *, share: float) -> None:
        """Run a digest in the free slot, with a share of the traffic."""
        if not 0 < share < 1:
            raise TargetError(f"the share of a canary must be between 0 and 1, got {share:g}")
        with self._changing():
            state = self._load()
            if state.live is None or state.stable is None:
                raise TargetError("there is nothing to run a canary beside", hint="Promote a first release.")
            if digest != state.stable:
                self._make_room(state, digest)
                digests: dict[str, str] = {state.live: state.stable, _OTHER[state.live]: digest}
                self._become(_State(live=state.live, digests=digests, share=share))

    def promote(self, digest: str) -> None:
        """Give a digest all traffic, in the slot that it runs in or else in the free one."""
        with self._changing():
            state = self._load()
            if digest == state.stable or state.live is None:
                slot: _Slot = state.live or "a"
            else:
                self._make_room(state, digest)
                slot = _OTHER[state.live]
            self._become(_State(live=slot, digests={slot: digest}))

    def abort_canary(self) -> None:
        """Give the stable one all traffic; then let the candidate finish, and end it."""
        with self._changing():
            self._become(_alone(self._load()))

    def health(self, digest: str) -> Health:
        """Ask a digest that runs for its health."""
        state = self._load()
        slot = next((slot for slot, one in state.digests.items() if one == digest), None)
        if slot is None:
            return Health(is_healthy=False, num_ready=0, num_wanted=0, reason="it is not deployed")
        if _role(slot, digest) not in self._programs.running():
            return Health(is_healthy=False, num_ready=0, num_wanted=1, reason="its program has ended")
        answer = get(self._ports[slot], self._settings.health_path, seconds=_PROBE_SECONDS)
        if answer is None or answer[0] != _OK:
            what = "does not answer" if answer is None else f"answers with status {answer[0]}"
            return Health(is_healthy=False, num_ready=0, num_wanted=1, reason=f"its health check {what}")
        return Health(is_healthy=True, num_ready=1, num_wanted=1, reason="")

    def measure(self, *, seconds: float) -> Window:
        """Return what the edge saw of the requests that began in the last seconds and are done."""
        since = datetime.now(UTC) - timedelta(seconds=seconds)
        time.sleep(_FLUSH_SECONDS)
        state = self._load()
        if state.live is None:
            return Window({}, {})
        lines = read_tail(self._edge.log)
        stable = samples_of(lines, state.live, since=since)
        candidate = samples_of(lines, _OTHER[state.live], since=since) if state.candidate else {}
        return Window(stable, candidate)

    def close(self) -> None:
        """End everything that runs here, for good."""
        with self._changing():
            for role in self._programs.running():
                self._programs.stop(role, grace_seconds=self._settings.grace_seconds)
            self._save(_State())

    def _make_room(self, state: _State, digest: str) -> None:
        """Have the slot that is not live free, or with the digest in it."""
        if state.candidate not in {None, digest}:
            self._become(_alone(state))

    def _become(self, state: _State) -> None:
        before = self._load()
        started = [slot for slot, digest in state.digests.items() if self._start(slot, digest)]
        if started:
            self._edge.bring(before.weights(), self._there())
            for slot in started:
                self._await_ready(slot, state.digests[slot])
        self._edge.bring(state.weights(), self._there())
        self._save(state)
        self._end_others(state)

    def _start(self, slot: str, digest: str) -> bool:
        """Start a release where it does not run; return whether it had to be."""
        running = self._programs.running()
        if _role(slot, digest) in running:
            return False
        for role in [role for role in running if role.startswith(f"{slot} ")]:
            self._programs.stop(role, grace_seconds=self._settings.grace_seconds)
        values = {"{digest}": digest, "{port}": str(self._ports[slot]), "{slot}": slot}
        command = []
        for part in self._settings.command:
            for name, value in values.items():
                part = part.replace(name, value)  # noqa: PLW2901 - one value after the other
            command.append(part)
        self._shorten_log()
        self._programs.start(_role(slot, digest), command, self._settings.environment, self._folder / f"{slot}.log")
        return True

    def _await_ready(self, slot: str, digest: str) -> None:
        role = _role(slot, digest)

        def is_ready() -> bool:
            answer = get(self._ports[slot], self._settings.health_path, seconds=_PROBE_SECONDS)
            return answer is not None and answer[0] == _OK and self._edge.is_ready(slot)

        def has_ended() -> bool:
            return role not in self._programs.running()

        wait_until(lambda: is_ready() or has_ended(), seconds=self._settings.ready_seconds)
        if has_ended() or not is_ready():
            why = "its program has ended" if has_ended() else f"not within {self._settings.ready_seconds:g} s"
            self._programs.stop(role, grace_seconds=self._settings.grace_seconds)
            logs = self._folder / slot
            raise TargetError(f"{digest} is not ready: {why}", hint=f"See {logs}.err and {logs}.log.")

    def _end_others(self, state: _State) -> None:
        wanted = {_role(slot, digest) for slot, digest in state.digests.items()}
        others = [role for role in self._programs.running() if role[:2] in {"a ", "b "} and role not in wanted]
        for role in others:
            self._drain(role[0])
            self._programs.stop(role, grace_seconds=self._settings.grace_seconds)
        if others:
            self._edge.bring(state.weights(), self._there())

    def _drain(self, slot: str) -> None:
        wait_until(lambda: self._edge.num_active(slot) == 0, seconds=self._settings.drain_seconds)

    def _there(self) -> dict[str, bool]:
        slots = {role[0] for role in self._programs.running() if role[:2] in {"a ", "b "}}
        return {slot: slot in slots for slot in self._ports}

    def _shorten_log(self) -> None:
        """Empty a log of which only the end is read. Envoy appends, so it goes on at the beginning."""
        with contextlib.suppress(FileNotFoundError):
            if self._edge.log.stat().st_size > 2 * MAX_BYTES:
                os.truncate(self._edge.log, 0)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        with (self._folder / "lock").open("ab") as file:
            if not wait_until(lambda: _lock(file.fileno()), seconds=self._settings.lock_seconds):
                raise TargetError(f"another change of '{self.name}' has not ended in {self._settings.lock_seconds:g} s")
            yield

    def _load(self) -> _State:
        try:
            return msgspec.json.decode((self._folder / "state.json").read_bytes(), type=_State)
        except FileNotFoundError:
            return _State()
        except (OSError, msgspec.MsgspecError) as error:
            raise TargetError(f"the state of '{self.name}' in {self._folder} cannot be read: {error}") from error

    def _save(self, state: _State) -> None:
        draft = self._folder / "state.json.new"
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(state))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._folder / "state.json")


def _alone(state: _State) -> _State:
    if state.live is None or state.stable is None:
        return _State()
    return _State(live=state.live, digests={state.live: state.stable})


def _role(slot: str, digest: str) -> str:
    return f"{slot} {digest}"


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
