"""`pratique serve inference`: parse the flags, run the model server, return its exit code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["inference"]


def inference(
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one. Default 8081.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default 127.0.0.1.")] = None,
    engine: Annotated[str | None, typer.Option(help="vllm or simulated. Default vllm.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Folder of a model in safetensors; without one the small model is served.")
    ] = None,
    model_root: Annotated[Path | None, typer.Option(help="Where imported models are kept.")] = None,
    warmup: Annotated[
        Path | None, typer.Option(help="A warmup manifest; `pratique warmup derive` makes one of a traffic log.")
    ] = None,
    sagemaker: Annotated[
        bool, typer.Option("--sagemaker", help="As SageMaker starts it: every address, port 8080, /opt/ml/model.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="This replica's name in status and logs.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with a table \\[inference].")] = None,
) -> None:
    """Serve a model: ready means warm. SIGTERM drains."""
    from pratique.core.events import configure_events
    from pratique.core.settings import load_settings
    from pratique.inference.run import run
    from pratique.inference.settings import InferenceSettings

    flags = {
        "port": port,
        "host": host,
        "engine": engine,
        "model": model,
        "model_root": model_root,
        "warmup": warmup,
        "name": name,
    }
    if sagemaker:
        contract: dict[str, int | str | Path] = {"host": "0.0.0.0", "port": 8080, "model": Path("/opt/ml/model")}
        flags |= {setting: value for setting, value in contract.items() if flags[setting] is None}
    settings = load_settings(InferenceSettings, part="inference", file=config, environment=os.environ, overrides=flags)
    configure_events(service=settings.name)
    admit = None
    if settings.artifact.require:
        from pratique.cli._models import open_admission

        admit = open_admission(settings.artifact)
    code = run(settings, announce=lambda url: print(f"listening on {url}", flush=True), admit=admit)
    # Threads that still load a model cannot be cancelled, and must not keep the process.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
