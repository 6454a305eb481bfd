"""Settings of the inspection of images."""

from __future__ import annotations

from typing import Annotated

import msgspec

from pratique.core.settings import Settings

__all__ = ["Allowance", "HygieneSettings"]

_Bytes = Annotated[int, msgspec.Meta(ge=0)]


class Allowance(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A finding that somebody answers for (`[[release.hygiene.allow]]`). It is told all the same, as a note."""

    rule: str
    """The rule's name, as findings have it."""
    where: str
    """The place as findings have it; `*` stands for anything."""
    reason: Annotated[str, msgspec.Meta(min_length=10)]
    """Why it may be there."""


class HygieneSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an image may weigh, and what is allowed to be in it (`[release.hygiene]`)."""

    size_budget_bytes: _Bytes = 200_000_000
    """Of all layers, compressed, as they are pulled."""
    wasted_budget_bytes: _Bytes = 5_000_000
    """Of what was written in one layer and overwritten or deleted in a later one, uncompressed."""
    num_bytes_limit: _Bytes = 32 * 1024**3
    """Uncompressed; an image of more is refused unread."""
    num_entries_limit: _Bytes = 2_000_000
    """Files in all layers together; an image of more is refused."""
    allow: tuple[Allowance, ...] = ()
    """Findings that somebody answers for."""
