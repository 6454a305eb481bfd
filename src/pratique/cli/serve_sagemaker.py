"""`pratique serve sagemaker`: parse the flags, run the shim."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["sagemaker"]


def sagemaker(
    endpoint: Annotated[
        list[str] | None,
        typer.Option(help="NAME=URL of a model server, or NAME/VARIANT:WEIGHT=URL; may be repeated."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one. Default 8090.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default 127.0.0.1.")] = None,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Allow a --host that others reach: signatures are not checked.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="TOML file with a table \\[sagemaker].")] = None,
) -> None:
    """Serve SageMaker's runtime API before model servers, for clients that call endpoints.

    Signatures are NOT checked: it is for tests and for your own machine.
    """
    from pratique.core.events import configure_events
    from pratique.core.settings import load_settings
    from pratique.inference.sagemaker.run import run
    from pratique.inference.sagemaker.settings import SageMakerSettings

    flags = {
        "endpoints": endpoint or None,
        "port": port,
        "host": host,
        "allow_remote": allow_remote or None,
    }
    settings = load_settings(SageMakerSettings, part="sagemaker", file=config, environment=os.environ, overrides=flags)
    configure_events(service="sagemaker")
    typer.echo("warning: signatures are not checked: whoever reaches this address may invoke every endpoint", err=True)
    run(settings, announce=lambda url: print(f"listening on {url}", flush=True))
