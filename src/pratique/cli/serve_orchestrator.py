"""`pratique serve orchestrator`: one replica of the chat service. Flags, settings, nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from pratique.core.events import configure_events
from pratique.core.settings import load_settings
from pratique.orchestrator.server import serve
from pratique.orchestrator.settings import OrchestratorSettings

__all__ = ["orchestrator"]


def orchestrator(
    port: Annotated[int | None, typer.Option(help="Where to listen; 0: any free port. [8081]")] = None,
    host: Annotated[str | None, typer.Option(help="[127.0.0.1]")] = None,
    name: Annotated[str | None, typer.Option(help="This replica's name. [orchestrator-0]")] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="Folder of the conversations, the session secret and the API keys.")
    ] = None,
    valkey_url: Annotated[
        str | None, typer.Option(help="Shared cache and generation log; without it, memory: a single replica.")
    ] = None,
    inference_url: Annotated[str | None, typer.Option(help="The edge's internal listener, or a model server.")] = None,
    inference_status: Annotated[
        list[str] | None, typer.Option(help="A model server to ask for its state, 'name=url'; may be repeated.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with a table \\[orchestrator].")] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Serve the chat: one replica of the orchestrator.

    Every setting can also come from the file or from PRATIQUE_ORCHESTRATOR_… in the environment; flags win.
    """
    settings = load_settings(
        OrchestratorSettings,
        part="orchestrator",
        file=config,
        environment=os.environ,
        overrides={
            "port": port,
            "host": host,
            "replica": name,
            "state_dir": state_dir,
            "valkey_url": valkey_url,
            "inference_url": inference_url,
            "inference_status_urls": inference_status or None,
        },
    )
    configure_events(service=settings.replica, level=log_level)
    serve(settings, announce=lambda url: typer.echo(f"listening on {url}"))
