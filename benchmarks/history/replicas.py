"""A history of two orchestrator replicas: random people, while replicas and Valkey are killed, paused and restarted."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.history.chatclient import Person
from benchmarks.history.house import Replica, Valkey
from benchmarks.history.record import Operation, Recorder, load_history
from benchmarks.history.storeclient import StoreSpec, open_spec, read_into

from pratique.core.ids import ConversationId
from pratique.orchestrator.conversations import ConversationNotFoundError, ConversationStore
from pratique.orchestrator.upstream.scripted import ScriptedUpstream
from pratique.orchestrator.upstream.scripted_server import ScriptedModelServer

__all__ = ["run_on_replicas"]

_PEOPLE = 4
_TABS = 2
_CALM_SECONDS = (0.3, 1.5)
_PAUSE_SECONDS = (0.3, 2.5)
_HEAL_SECONDS = 20.0
_QUIET_SECONDS = 3.0
"""After which every replica has heard of everything."""


async def run_on_replicas(
    spec: StoreSpec, folder: Path, *, seconds: float, seed: str, flags: list[str]
) -> tuple[list[Operation], dict[str, int]]:
    """Let people loose on two replicas, with one fault at a time; return their history and the faults by kind.

    `flags` make the replicas use the store of `spec`.
    """
    draw = random.Random(seed)  # noqa: S311 - dice
    recorder = Recorder(folder / "people.jsonl")
    upstream = ScriptedUpstream(words=12, pause_seconds=0.02)
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(ScriptedModelServer(upstream).running())
        valkey = Valkey(folder)
        common = ["--state-dir", str(folder), "--valkey-url", valkey.url, "--inference-url", model.url, *flags]
        replicas = [Replica(f"orchestrator-{number}", folder, common) for number in range(2)]
        for process in (*replicas, valkey):
            stack.push_async_callback(process.kill)
        await valkey.start()
        for replica in replicas:
            await replica.start()
        people = [
            await stack.enter_async_context(
                Person(f"p{number}", replicas, recorder, random.Random(f"{seed}-{number}"))  # noqa: S311 - dice
            )
            for number in range(_PEOPLE)
        ]
        talking = [asyncio.ensure_future(person.run()) for person in people for _ in range(_TABS)]
        try:
            faults = await _hurt(replicas, valkey, draw, seconds=seconds, require=lambda: _require_running(talking))
        finally:
            for task in talking:
                task.cancel()
            await asyncio.gather(*talking, return_exceptions=True)
        await _read_at_the_end(spec, recorder, people)
    recorder.close()
    return load_history([recorder.path]), faults


async def _hurt(
    replicas: list[Replica], valkey: Valkey, draw: random.Random, *, seconds: float, require: Callable[[], None]
) -> dict[str, int]:
    async def restart(process: Replica | Valkey) -> None:
        await process.kill()
        await asyncio.sleep(draw.uniform(0, 1))
        await process.start()

    async def pause(process: Replica | Valkey) -> None:
        await process.pause(draw.uniform(*_PAUSE_SECONDS))

    kinds: dict[str, Callable[[], Awaitable[None]]] = {
        "kill replica": lambda: restart(draw.choice(replicas)),
        "pause replica": lambda: pause(draw.choice(replicas)),
        "kill valkey": lambda: restart(valkey),
        "pause valkey": lambda: pause(valkey),
    }
    faults = dict.fromkeys(kinds, 0)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await asyncio.sleep(draw.uniform(*_CALM_SECONDS))
        require()
        for process in (*replicas, valkey):
            process.require_alive()
        kind = draw.choice(list(kinds))
        await kinds[kind]()
        faults[kind] += 1
    return faults


def _require_running(tasks: Sequence[asyncio.Future[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()


async def _read_at_the_end(spec: StoreSpec, recorder: Recorder, people: list[Person]) -> None:
    """Wait until all replies have ended and all caches know; read at every replica, and then the store itself."""
    history = load_history([recorder.path])
    names = {one.conversation_id for one in history if one.conversation_id}
    async with AsyncExitStack() as stack:
        store = await open_spec(spec, stack)
        for person in people:
            page = await store.list_conversations(owner=person.principal_id, limit=200)
            names |= {shown.conversation_id for shown in page.conversations}
        async with asyncio.timeout(_HEAL_SECONDS):
            for name in names:
                await _wait_ended(store, name)
        await asyncio.sleep(_QUIET_SECONDS)
        for person in people:
            await person.resume_all()
            await person.read_everywhere()
        for name in sorted(names):
            await read_into(store, recorder, "final", name, is_final=True)


async def _wait_ended(store: ConversationStore, name: str) -> None:
    while True:
        try:
            found = await store.load_conversation(ConversationId(name))
        except ConversationNotFoundError:
            return
        if found.conversation.active_generation_id is None:
            return
        await asyncio.sleep(0.05)
