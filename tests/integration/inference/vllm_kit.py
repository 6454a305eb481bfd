"""Helpers for the tests of vLLM as an engine in the test's own process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from pratique.inference.engines.interface import ChatMessage, EnginePhase, GenerateRequest
from pratique.inference.errors import EngineDeadError
from pratique.inference.settings import InferenceSettings

if TYPE_CHECKING:
    from pratique.inference.engines.vllm import VllmEngine

QUESTION = "What is the capital of France?"
ANSWER = "The capital of France is Paris."
STORY = "Write a long story about the sea."
SETTINGS = InferenceSettings(kv_cache_memory_bytes=1 << 26, max_model_len=1024)
HIDDEN, INNER, LAYERS = 576, 1536, 30
"""Of the small model."""


@dataclass
class Phases:
    """A report that remembers."""

    heard: list[tuple[EnginePhase, str, float | None]] = field(default_factory=list)

    def __call__(self, phase: EnginePhase, detail: str, share: float | None = None) -> None:
        self.heard.append((phase, detail, share))

    @property
    def order(self) -> list[EnginePhase]:
        return list(dict.fromkeys(phase for phase, _, _ in self.heard))


def nobody(phase: EnginePhase, detail: str, share: float | None = None) -> None:
    """A report that nobody reads."""
    del phase, detail, share


def write_adapter(folder: Path, seed: int, *, rank: int = 4, hidden: int = HIDDEN) -> Path:
    """Write an adapter whose large B changes every answer."""
    import torch
    from safetensors.torch import save_file

    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(LAYERS):
        name = f"base_model.model.model.layers.{layer}.mlp.down_proj"
        tensors[f"{name}.lora_A.weight"] = torch.randn(rank, INNER, generator=random) * 0.05
        tensors[f"{name}.lora_B.weight"] = torch.randn(hidden, rank, generator=random) * 3
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["down_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


async def ask(
    engine: VllmEngine, text: str = QUESTION, *, max_tokens: int = 12, adapter: str | None = None, key: str = "q"
) -> str:
    prompt = engine.encode([ChatMessage(role="user", content=text)])
    request = GenerateRequest(request_id=key, prompt=prompt, max_tokens=max_tokens, adapter=adapter)
    return "".join([piece.text async for piece in engine.generate(request)])


@dataclass
class Reply:
    status: int = 0
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


async def post(engine: VllmEngine, path: str, **body: object) -> Reply:
    """Call vLLM's own handlers as a server would."""
    requests = [{"type": "http.request", "body": json.dumps({"model": "small", "temperature": 0, **body}).encode()}]
    reply = Reply()

    async def receive() -> Any:
        if requests:
            return requests.pop()
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        reply.status = message.get("status", reply.status)
        reply.body += message.get("body", b"")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "server": ("test", 80),
        "client": ("test", 1),
    }
    await engine.openai_app(scope, receive, send)
    return reply


async def chat(engine: VllmEngine, model: str = "small") -> Reply:
    messages = [{"role": "user", "content": QUESTION}]
    return await post(engine, "/v1/chat/completions", model=model, messages=messages, max_tokens=12)


def long_requests(engine: VllmEngine) -> dict[str, asyncio.Task[Any]]:
    """Begin one long request on every way into the engine."""
    messages = [{"role": "user", "content": STORY}]
    options: dict[str, Any] = {"max_tokens": 800, "ignore_eos": True}
    ways: dict[str, Coroutine[Any, Any, Any]] = {
        "generate": ask(engine, STORY, max_tokens=800),
        "adapter": ask(engine, STORY, max_tokens=800, adapter="first", key="a"),
        "chat": post(engine, "/v1/chat/completions", messages=messages, **options),
        "chat, streamed": post(engine, "/v1/chat/completions", messages=messages, stream=True, **options),
        "completion": post(engine, "/v1/completions", prompt=STORY, **options),
        "completion, streamed": post(engine, "/v1/completions", prompt=STORY, stream=True, **options),
    }
    return {way: asyncio.ensure_future(coroutine) for way, coroutine in ways.items()}


async def until(condition: Callable[[], bool], *, within_seconds: float = 60) -> None:
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(0.005)


async def all_running(engine: VllmEngine, tasks: dict[str, asyncio.Task[Any]]) -> None:
    await until(lambda: engine.pulse().num_running == len(tasks))
    assert not any(task.done() for task in tasks.values())


async def endings(tasks: dict[str, asyncio.Task[Any]], *, within_seconds: float) -> dict[str, Any]:
    """Wait until all have ended; return what each said last: an error, or a status and the end of its body."""
    began = time.monotonic()
    _, hanging = await asyncio.wait(tasks.values(), timeout=within_seconds)
    for task in hanging:
        task.cancel()
    assert not hanging, f"{[way for way, task in tasks.items() if task in hanging]} hang after {within_seconds} s"
    assert time.monotonic() - began < within_seconds
    ended: dict[str, Any] = {}
    for way, task in tasks.items():
        reply: Any = task.exception() or task.result()
        ended[way] = (reply.status, reply.body[-400:].decode()) if isinstance(reply, Reply) else reply
    return ended


def kill(engine: VllmEngine, number: signal.Signals = signal.SIGKILL) -> None:
    for pid in engine.pids:
        os.kill(pid, number)


async def death_of(engine: VllmEngine) -> EngineDeadError:
    found: list[EngineDeadError] = []

    def is_dead() -> bool:
        try:
            engine.check()
        except EngineDeadError as error:
            found.append(error)
        return bool(found)

    await until(is_dead)
    return found[0]


def own_temporary_files() -> list[str]:
    return [path.name for path in Path(tempfile.gettempdir()).glob(f"pratique-engine-{os.getpid()}-*")]


def engine_processes() -> set[int]:
    """Pids of every engine below this process: also those of servers that other tests have running."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended while it was looked at
            if "EngineCore" in child.name():
                found.add(child.pid)
    return found


def files_of_vllm() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("vllm_dist_*"))
