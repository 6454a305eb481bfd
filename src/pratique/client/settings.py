"""The client's settings: every bound on time and size, and how it reconnects."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from pratique.core.settings import Settings, SettingsError

__all__ = ["ClientSettings", "verify_settings"]

_Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400)]
_Count: TypeAlias = Annotated[int, Meta(ge=1, le=1000)]


class ClientSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the client waits, and how hard it tries."""

    connect_timeout_seconds: _Seconds = 5.0
    """One attempt to open a connection, up to its first byte."""
    request_timeout_seconds: _Seconds = 10.0
    """One call of the HTTP API, all attempts together."""
    reply_timeout_seconds: _Seconds = 600.0
    """A whole reply, from the call to its last event, reconnects included."""
    reconnect_timeout_seconds: _Seconds = 60.0
    """How long a reply may go without any progress while the connection is lost, before the client gives up."""
    backoff_first_seconds: _Seconds = 0.1
    backoff_cap_seconds: _Seconds = 5.0
    heartbeats_missed: _Count = 2
    """Silence for so many of the server's heartbeat periods means that the connection is dead."""
    websocket_losses: _Count = 5
    """After so many lost WebSockets in a row the client goes on with server-sent events."""
    stable_seconds: _Seconds = 10.0
    """A connection that lived for so long was good: its loss is the first of a new row."""
    max_refusals: _Count = 5
    """How often in a row a "not now" of the server is answered by trying again."""
    max_event_bytes: Annotated[int, Meta(ge=65_536)] = 16 * 2**20


def verify_settings(settings: ClientSettings) -> ClientSettings:
    """Return `settings` where every value is within its bounds.

    Raises:
        SettingsError: one is not.
    """
    try:
        return msgspec.convert(msgspec.to_builtins(settings), ClientSettings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"The client's settings are wrong: {error}.") from error
