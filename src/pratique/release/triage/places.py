"""What runs where, by the ledger: the release that has all traffic of an environment, and a canary beside it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from pratique.release.ledger.interface import Entry, EntryKind
from pratique.release.promotion.history import Released, Step, read_body
from pratique.release.values import Digest

__all__ = ["PLACE_KINDS", "Place", "read_places"]

PLACE_KINDS: Final[tuple[EntryKind, ...]] = ("rollout", "promotion", "rollback")


@dataclass(frozen=True, slots=True)
class Place:
    """An image that takes traffic."""

    digest: Digest
    environment: str
    role: Literal["stable", "canary"]
    target: str
    repository: str
    since: datetime
    entry: int
    """The ledger's entry that says so."""


def read_places(entries: Iterable[Entry]) -> tuple[Place, ...]:
    """Return what takes traffic now, from entries of the kinds `PLACE_KINDS`, oldest first.

    Raises:
        HistoryUnreadableError: an entry is none that this version writes.
    """
    stable: dict[str, Place] = {}
    canaries: dict[str, Place] = {}
    for entry in entries:
        if entry.kind != "rollout":
            released = read_body(entry, Released)
            stable[entry.environment] = _place(entry, "stable", released.target, released.repository)
            canaries.pop(entry.environment, None)
            continue
        step = read_body(entry, Step)
        if step.step == "started":
            canaries[entry.environment] = _place(entry, "canary", step.target, step.repository)
        elif step.step == "aborted":  # what failed was left where it is: it takes traffic until another is released
            canaries.pop(entry.environment, None)
    found = (*stable.values(), *canaries.values())
    return tuple(sorted(found, key=lambda one: (one.environment, one.role != "stable")))


def _place(entry: Entry, role: Literal["stable", "canary"], target: str, repository: str) -> Place:
    return Place(entry.subject, entry.environment, role, target, repository, entry.at, entry.index)
