"""`pratique registry serve`: parse the flags, run the front."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from pratique.cli._signing import Config

__all__ = ["app"]

app = typer.Typer(help="The front before a plain OCI registry.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """The front before a plain OCI registry."""  # keeps `serve` a word of its own


@app.command("serve")
def serve(
    upstream: Annotated[
        str | None, typer.Option(help="The registry behind it: http://host:port or https://host.")
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="Where its processes keep which tags are being written.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one. Default 5080.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default 127.0.0.1.")] = None,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Allow a --host that others reach: the front asks for no login.")
    ] = False,
    allow_deletes: Annotated[
        bool, typer.Option("--allow-deletes", help="Let manifests and blobs be deleted, by their digests.")
    ] = False,
    config: Config = None,
) -> None:
    """Serve immutable tags, conditional writes and referrers in front of a plain OCI registry."""
    from pratique.core.events import configure_events
    from pratique.core.settings import load_settings
    from pratique.release.registry.front.serve import serve as serve_front
    from pratique.release.registry.settings import FrontSettings
    from pratique.release.settings import ReleaseSettings

    settings = load_settings(ReleaseSettings, part="release", file=config, environment=os.environ)
    flags = {
        "upstream": upstream and upstream.rstrip("/"),
        "state_dir": state_dir,
        "port": port,
        "host": host,
        "allow_remote": allow_remote or None,
        "allow_deletes": allow_deletes or None,
    }
    table = msgspec.structs.asdict(settings.registry.front)
    front = load_settings(
        FrontSettings,
        part="release.registry.front",
        overrides=table | {name: value for name, value in flags.items() if value is not None},
    )
    configure_events(service="registry")
    serve_front(front, announce=lambda url: print(f"listening on {url}", flush=True))
