"""What runs where, by the ledger: the release that has all traffic of an environment, and a canary beside it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeVar

from pratique.release.decoding import MalformedError, decode_json
from pratique.release.ledger.interface import Entry, EntryKind
from pratique.release.promotion.history import HistoryUnreadableError, Released, Step
from pratique.release.values import Digest

__all__ = ["PLACE_KINDS", "Place", "read_places"]

PLACE_KINDS: Final[tuple[EntryKind, ...]] = ("rollout", "promotion", "rollback")
T = TypeVar("T")


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
            released = _read(entry, Released)
            stable[entry.environment] = _place(entry, "stable", released.target, released.repository)
            canaries.pop(entry.environment, None)
            continue
        step = _read(entry, Step)
        if step.step == "started":
            canaries[entry.environment] = _place(entry, "canary", step.target, step.repository)
        elif step.step == "aborted":  # what failed was left where it is: it takes traffic until another is released
            canaries.pop(entry.environment, None)
    found = (*stable.values(), *canaries.values())
    return tuple(sorted(found, key=lambda one: (one.environment, one.role != "stable")))


def _place(entry: Entry, role: Literal["stable", "canary"], target: str, repository: str) -> Place:
    return Place(entry.subject, entry.environment, role, target, repository, entry.at, entry.index)


def _read(entry: Entry, kind: type[T]) -> T:
    try:
        return decode_json(entry.body, kind)
    except MalformedError as error:
        raise HistoryUnreadableError(
            f"entry {entry.index} of the ledger, of the kind '{entry.kind}', cannot be read: {error}",
            hint="It was written by another version of pratique, or by hand.",
        ) from error
