"""`pratique chat`: chat in the terminal, or ask once and print the reply. Parses and hands over."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pratique.cli._chat_screen import Screen
from pratique.cli._chat_session import Once, converse, say_once
from pratique.cli._chat_target import resolve_target
from pratique.client import ChatClient, ClientSettings
from pratique.core.errors import CallerError
from pratique.core.settings import load_settings

__all__ = ["chat"]


def chat(
    url: Annotated[str | None, typer.Option(help="Address of the chat service. Default: the running stack's.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="The same, on this machine.")] = None,
    state_dir: Annotated[Path | None, typer.Option(help="State folder of the running stack.")] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File with an API key. Default: $PRATIQUE_API_KEY, then the running stack's.")
    ] = None,
    conversation: Annotated[str | None, typer.Option(help="Go on in this conversation.")] = None,
    model: Annotated[str | None, typer.Option(help="Ask this pool or adapter. Default: the service chooses.")] = None,
    once: Annotated[str | None, typer.Option(metavar="TEXT", help="Say TEXT, print the reply, and exit.")] = None,
    json: Annotated[bool, typer.Option("--json", help="With --once: print the reply and its figures as JSON.")] = False,
    wait_seconds: Annotated[
        float, typer.Option(min=0, help="With --once: wait so long for a model that is ready.")
    ] = 120.0,
) -> None:
    """Chat in the terminal.

    Exit codes: 0 answered; 1 refused (no ready model, no access, busy); 2 wrong usage; 3 the connection or the
    reply failed; 130 interrupted.
    """
    if json and once is None:
        raise CallerError("--json says how to print one reply.", hint="Add --once TEXT.")
    target = resolve_target(url=url, port=port, state_dir=state_dir, api_key_file=api_key_file, environment=os.environ)
    settings = load_settings(ClientSettings, part="client", environment=os.environ)
    client = ChatClient(target.url, api_key=target.api_key, settings=settings)
    screen = Screen(out=sys.stdout, err=sys.stderr)
    if once is None:
        converse(client, screen, conversation_id=conversation, model=model)
    else:
        request = Once(text=once, conversation_id=conversation, model=model, wait_seconds=wait_seconds, is_json=json)
        say_once(client, screen, request)
