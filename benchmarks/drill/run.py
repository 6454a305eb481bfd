"""One drill from beginning to end.

Steps:

1. start the stack and wait until all of it takes traffic;
2. let people talk and the prober ask while the nemesis breaks things;
3. end the load: everything is healed, people finish what they have begun, nothing may run any more;
4. stop the stack, read the store as it is, judge.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks._server import machine
from benchmarks.drill.faults import draw_faults, parts_of
from benchmarks.drill.history import History
from benchmarks.drill.house import REPLY_TOKENS, House, drill_settings
from benchmarks.drill.nemesis import Nemesis
from benchmarks.drill.outages import find_outages, make_episodes, summarize
from benchmarks.drill.people import PATIENCE_SECONDS, Scene
from benchmarks.drill.prober import Prober
from benchmarks.drill.report import Results
from benchmarks.drill.speakers import make_people
from benchmarks.drill.verdict import judge
from benchmarks.history.storeclient import seen_turns

from pratique.core.ids import ConversationId
from pratique.inference.engines.simulated import simulated_reply
from pratique.orchestrator.conversations.errors import ConversationNotFoundError
from pratique.orchestrator.conversations.sqlite import SqliteConversationStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.drill.faults import Fault
    from benchmarks.drill.history import Said
    from benchmarks.history.record import SeenTurn

__all__ = ["Drill", "find_own_faults", "run_drill"]

_TAIL_SECONDS: Final = 5.0
"""Of load after the last fault, so that its consequences are seen."""
_QUIET_SECONDS: Final = 40.0
"""Until nothing may be running any more: a lease, a scan, and a whole reply."""


@dataclass(frozen=True, kw_only=True)
class Drill:
    """What is asked for."""

    seconds: float
    seed: int
    people: int
    orchestrators: int
    inference: int
    engine: str
    folder: Path


@dataclass(frozen=True, kw_only=True)
class _Seen:
    history: History
    prober: Prober
    nemesis: Nemesis
    seconds: float


async def run_drill(drill: Drill, stopping: asyncio.Event, say: Callable[[str], None]) -> Results:
    """Do it. `stopping` ends the load early; what was seen until then is judged all the same.

    Raises:
        PratiqueError: the stack did not start.
    """
    settings = drill_settings(orchestrators=drill.orchestrators, inference=drill.inference, engine=drill.engine)
    house = House(settings, drill.folder)
    say(f"starting {drill.orchestrators} orchestrators and {drill.inference} model servers")
    async with house.running():
        seen = await _live_through(drill, house, stopping, say)
        running = await _wait_until_quiet(house)
    seen.history.write(drill.folder / "history.jsonl")
    stored = await _read_store(house, seen.history.said)
    expected = _expected if drill.engine == "simulated" else None
    outages = find_outages(seen.prober.samples)
    episodes = make_episodes(seen.nemesis.done, outages, seen.history.silences)
    return Results(
        seed=drill.seed,
        seconds=seen.seconds,
        machine=machine(),
        turns=_count(seen.history.said, seen.prober),
        errors=seen.history.count_troubles(),
        verdict=judge(
            [said for said in seen.history.said if said.transport != "v1"],
            stored,
            running=running,
            expected=expected,
        ),
        episodes=episodes,
        outages=outages,
        summaries=summarize(episodes),
        notes=[
            *(f"{one.fault.label} of {one.fault.part.name} {one.note}" for one in seen.nemesis.done if one.note),
            *find_own_faults(house.logs),
        ],
    )


async def _live_through(drill: Drill, house: House, stopping: asyncio.Event, say: Callable[[str], None]) -> _Seen:
    began = time.monotonic()

    def now() -> float:
        return time.monotonic() - began

    parts = parts_of(orchestrators=drill.orchestrators, inference=drill.inference)
    faults = draw_faults(parts, seed=drill.seed, seconds=drill.seconds - _TAIL_SECONDS)
    say(f"{drill.people} people, {len(faults)} faults in {drill.seconds:.0f} s, seed {drill.seed}")
    enough = asyncio.Event()
    history, prober, nemesis = History(), Prober(house.url, now), Nemesis(house, now, say)
    scene = Scene(url=house.url, api_key=house.api_key, history=history, now=now, stopping=enough)
    async with asyncio.TaskGroup() as tasks:
        probing = tasks.create_task(prober.run())
        talking = [
            tasks.create_task(person.live()) for person in make_people(scene, number=drill.people, seed=drill.seed)
        ]
        breaking = tasks.create_task(_break(nemesis, faults))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drill.seconds):
                await stopping.wait()
        enough.set()
        breaking.cancel()
        await asyncio.gather(breaking, return_exceptions=True)
        await asyncio.to_thread(house.heal)
        seconds = now()
        say(f"{seconds:7.1f} s  healed; people finish")
        await asyncio.wait(talking, timeout=PATIENCE_SECONDS)
        for task in (probing, *talking):
            task.cancel()
    return _Seen(history=history, prober=prober, nemesis=nemesis, seconds=seconds)


async def _break(nemesis: Nemesis, faults: Sequence[Fault]) -> None:
    await nemesis.run(tuple(faults))


async def _wait_until_quiet(house: House) -> list[str]:
    """Return the generations that still run although nobody asked for anything for long."""
    store = await SqliteConversationStore.open(house.database)
    try:
        until = time.monotonic() + _QUIET_SECONDS
        while True:
            running = [record.generation_id for record in await store.running_generations(older_than_seconds=0)]
            if not running or time.monotonic() > until:
                return [str(name) for name in running]
            await asyncio.sleep(0.5)
    finally:
        await store.aclose()


async def _read_store(house: House, said: Sequence[Said]) -> dict[str, tuple[SeenTurn, ...]]:
    """Return the turns of every conversation that people know of."""
    store = await SqliteConversationStore.open(house.database)
    stored: dict[str, tuple[SeenTurn, ...]] = {}
    try:
        for conversation_id in {message.conversation_id for message in said if message.conversation_id}:
            with contextlib.suppress(ConversationNotFoundError):
                found = await store.load_conversation(ConversationId(conversation_id))
                stored[conversation_id] = seen_turns(found)
    finally:
        await store.aclose()
    return stored


def find_own_faults(folder: Path) -> list[str]:
    """Return what orchestrators logged as errors: lost parts are no errors, so these are worth a look."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for file in sorted(folder.glob("orchestrator-*.log")):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if said.get("level") == "error" or str(said.get("event", "")).startswith("error:"):
                reason = str(said.get("exception") or said.get("error") or "").strip().rpartition("\n")[2]
                counts[file.stem, str(said.get("event")), reason[:160]] += 1
    return [f"{name} logged {event}, {count} times: {reason}" for (name, event, reason), count in counts.items()]


def _expected(text: str) -> str:
    return simulated_reply(text, num_tokens=REPLY_TOKENS)


def _count(said: Sequence[Said], prober: Prober) -> dict[str, int]:
    ends = Counter(message.finish_reason for message in said)
    return {
        "messages sent": len(said),
        "of them acknowledged": sum(message.acknowledged is not None for message in said),
        "replies that ended whole": ends["stop"],
        "replies that ended early": sum(count for reason, count in ends.items() if reason not in {"stop", None}),
        "messages given up": sum(message.ended is None for message in said),
        "probes": len(prober.samples),
        "probes without an answer": sum(not sample.is_ok for sample in prober.samples),
    }
