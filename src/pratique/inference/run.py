"""The entry of the process: build the parts that the settings name, listen, run. Heavy imports come after listening."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import uvloop

from pratique.core.errors import PratiqueError
from pratique.core.events import get_logger
from pratique.core.settings import SettingsError
from pratique.inference.artifacts.released import Admit
from pratique.inference.artifacts.store import SMALL_MODEL, default_model_root, import_small_model
from pratique.inference.engines.interface import Adapter, ChatMessage, Engine
from pratique.inference.listener import listen, serving
from pratique.inference.model_files import ModelFiles
from pratique.inference.server import ModelParts, ModelServer
from pratique.inference.settings import AdapterSettings, InferenceSettings, ModelSettings
from pratique.inference.slot import Artifacts
from pratique.inference.warmup.manifest import built_in_manifest, load_manifest, shapes_for
from pratique.inference.warmup.shapes import Shape

__all__ = ["build", "run", "serve", "shape_finder"]

_LOG = get_logger("server")
_EXIT_FAILED = 1
_RUNTIME_LORA = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
"""With it vLLM's own API loads adapters from wherever a request says."""


def run(
    settings: InferenceSettings, *, announce: Callable[[str], None] = lambda _: None, admit: Admit | None = None
) -> int:
    """Run a model server until it is told to stop. Return the exit code: 1 where it failed.

    Args:
        settings: of the server.
        announce: gets its URL.
        admit: says which models and adapters were released, where the settings require it.
    """
    # Not `uvloop.run`: at its end it waits for threads, and one that loads a model for minutes cannot be cancelled.
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    code: int = loop.run_until_complete(serve(settings, announce, admit=admit))
    return code


async def serve(settings: InferenceSettings, announce: Callable[[str], None], *, admit: Admit | None = None) -> int:
    """Listen, then load and serve. SIGTERM and SIGINT drain.

    Raises:
        ListenError, WarmupManifestError, SettingsError: before anything else was begun.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    listener = listen(settings.host, settings.port)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = build(settings, admit)
    async with serving(server.gate, listener):
        url = "http://{}:{}".format(*listener.getsockname()[:2])
        _LOG.info("listening", url=url, engine=settings.engine)
        announce(url)
        try:
            await server.run(stop)
        except PratiqueError:
            return _EXIT_FAILED
    return 0


def build(settings: InferenceSettings, admit: Admit | None = None) -> ModelServer:
    """Put the parts together; nothing is begun.

    Raises:
        WarmupManifestError: one that the settings name cannot be used.
        SettingsError: released artifacts are required, and something would load others.
    """
    if settings.artifact.require:
        _require_guarded(settings, admit)
    return ModelServer(settings, [_parts(model, admit) for model in _models(settings)])


def _require_guarded(settings: InferenceSettings, admit: Admit | None) -> None:
    if admit is None:
        raise SettingsError("Released artifacts are required, and nobody is there who knows them.")
    if settings.engine == "simulated":
        raise SettingsError("The simulated engine loads no artifact, and [inference.artifact] requires a released one.")
    if os.environ.get(_RUNTIME_LORA, "0") not in {"", "0"}:
        raise SettingsError(
            f"{_RUNTIME_LORA} is set: vLLM would load adapters by itself, and released ones are required.",
            hint="Unset it.",
        )


@dataclass(frozen=True, kw_only=True)
class _Model:
    """One model that the settings name."""

    settings: InferenceSettings
    name: str
    folder: Path
    is_small: bool = False
    """The small model is imported where it is not there."""


def _models(settings: InferenceSettings) -> Iterator[_Model]:
    for model in settings.models:
        yield _Model(settings=_merged(settings, model), name=model.name, folder=model.folder)
    if settings.models:
        return
    if settings.engine == "simulated":
        yield _Model(settings=settings, name="simulated", folder=Path())
        return
    root = settings.model_root or default_model_root(os.environ)
    folder = settings.model or root / SMALL_MODEL
    yield _Model(settings=settings, name=folder.name, folder=folder, is_small=settings.model is None)


def _merged(settings: InferenceSettings, model: ModelSettings) -> InferenceSettings:
    """Return the server's settings with what is different for this model."""
    names = ("max_model_len", "max_num_seqs", "kv_cache_memory_bytes")
    given = {name: value for name in names if (value := getattr(model, name)) is not None}
    warmup = model.warmup or settings.warmup
    return msgspec.structs.replace(settings, adapters=model.adapters, warmup=warmup, **given)


def _parts(model: _Model, admit: Admit | None) -> ModelParts:
    settings = model.settings
    shapes = shape_finder(settings, model.name)
    adapters = _adapters(settings.adapters)
    if settings.engine == "simulated":
        from pratique.inference.engines.simulated import SimulatedEngine

        simulated = SimulatedEngine(
            settings.simulated, model=model.name, max_model_len=settings.max_model_len, adapters=adapters
        )
        return ModelParts(engine=simulated, settings=settings, shapes=shapes)
    from pratique.inference.engines.vllm import VllmEngine

    files = _files(model, admit if settings.artifact.require else None)
    engine = VllmEngine(settings, folder=model.folder, model=model.name, adapters=adapters, guard=files)
    timings = model.folder.parent / f".{model.folder.name}.start.json"
    artifacts = _artifacts(model, files)
    return ModelParts(engine=engine, settings=settings, shapes=shapes, artifacts=artifacts, timings=timings)


def _adapters(settings: Sequence[AdapterSettings]) -> tuple[Adapter, ...]:
    return tuple(Adapter(name=adapter.name, folder=adapter.folder) for adapter in settings)


def _files(model: _Model, admit: Admit | None) -> ModelFiles:
    settings = model.settings
    return ModelFiles(
        model.folder,
        adapters=[adapter.folder for adapter in settings.adapters],
        require_manifest=settings.require_manifest,
        recorded=settings.recorded_manifest,
        failures=settings.failures,
        admit=admit,
    )


def _artifacts(model: _Model, files: ModelFiles) -> Artifacts:
    root = model.folder.parent
    return Artifacts(
        fetch=(lambda progress: import_small_model(root, progress)) if model.is_small else None,
        check=files.check,
        verify=files.verify,
        confirm=files.confirm,
        cancel=files.cancel,
        released=files.released,
        failed=files.count_failure,
        failed_before=files.failures_before,
        succeeded=files.forget_failures,
    )


def shape_finder(settings: InferenceSettings, name: str) -> Callable[[Engine], Sequence[Shape]]:
    """Return what finds the warmup shapes once the engine can be asked what it takes.

    Raises:
        WarmupManifestError: now, so that a wrong manifest is known before anything is loaded.
    """
    given = None if settings.warmup is None else load_manifest(settings.warmup)
    where = str(settings.warmup or "The built-in manifest")
    if given is not None:
        known = [adapter.name for adapter in settings.adapters]
        shapes_for(given, model=name, where=where, max_model_len=settings.max_model_len, adapters=known)

    def find(engine: Engine) -> Sequence[Shape]:
        manifest = given or built_in_manifest(engine.max_model_len, engine.adapters)
        shapes = shapes_for(
            manifest, model=name, where=where, max_model_len=engine.max_model_len, adapters=engine.adapters
        )
        return _fitting(shapes, engine)

    return find


def _fitting(shapes: Sequence[Shape], engine: Engine) -> Sequence[Shape]:
    """Leave those to the catch-all, where there is one, that do not fit once the chat template is around them."""
    if not any(shape.fills_context for shape in shapes):
        return shapes
    room = engine.max_model_len - len(engine.encode([ChatMessage("user", "")]))
    fitting = [shape for shape in shapes if shape.fills_context or shape.prompt_tokens + shape.output_tokens <= room]
    for shape in shapes:
        if shape not in fitting:
            _LOG.warning("shape_left_to_the_catch_all", shape=shape.name, prompt_tokens=shape.prompt_tokens, room=room)
    return fitting
