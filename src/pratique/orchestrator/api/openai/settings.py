"""The settings of the OpenAI API, the table [orchestrator.openai]."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from pratique.core.settings import Settings

__all__ = ["OpenAiSettings"]


class OpenAiSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What clients of /v1 are held to."""

    answer_timeout_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 10.0
    """A whole answer that is not streamed. A request may name another with `x-pratique-timeout-seconds`, up to
    `reply_timeout_seconds`."""
    max_body_bytes: Annotated[int, Meta(ge=1024, le=256 * 2**20)] = 8 * 2**20
    max_held_bytes: Annotated[int, Meta(ge=1024)] = 512 * 2**20
    """Of all bodies of requests that a replica has at once; what comes beyond them is refused as overloaded."""
