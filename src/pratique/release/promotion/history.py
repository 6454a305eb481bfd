"""What the ledger says of one environment: what was released, what is under way, and what comes next. Pure.

A rollout is one promotion or one rollback. It begins with the step "started", whose entry's hash is its id, and is open
until an entry "promotion" or "rollback" says that it has all traffic, or a step says "aborted" or "failed". So a
process that was killed leaves an open rollout, and `next_act` says from the entries and the target what is left to do:

- a promotion without a verdict is aborted: nobody watched its canary meanwhile;
- a promotion with a verdict, and a rollback, go on to all traffic, after being asked for anew;
- what has all traffic already is checked and recorded.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import msgspec

from pratique.core.errors import EnvironmentFaultError
from pratique.fleet.targets.interface import Deployment
from pratique.release.decoding import MalformedError, decode_json
from pratique.release.ledger.interface import Entry, EntryKind
from pratique.release.predicates import Canary
from pratique.release.values import Digest

__all__ = [
    "KINDS",
    "Act",
    "Action",
    "CanaryResult",
    "History",
    "HistoryUnreadableError",
    "Past",
    "Phase",
    "Released",
    "Rollout",
    "Step",
    "next_act",
    "read_body",
    "read_history",
]

KINDS: tuple[EntryKind, ...] = ("rollout", "canary", "promotion", "rollback")
"""The entries that a history is read from."""

Action = Literal["promotion", "rollback"]
T = TypeVar("T")


class HistoryUnreadableError(EnvironmentFaultError):
    """The ledger's entries of an environment are not what this version writes."""

    code = "history_unreadable"


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what is written into entries."""


class Step(_Body, frozen=True, kw_only=True):
    """A step of a rollout that is no result yet, or that ends it without one. Kind "rollout"."""

    step: Literal["started", "taken_over", "shifting", "aborted", "failed"]
    action: Action
    target: str
    repository: str
    rollout: Digest | None = None
    """The id; None in the step that begins it, whose hash it is."""
    baseline: Digest | None
    """What had all traffic when it began."""
    reason: str = ""


class CanaryResult(_Body, frozen=True, kw_only=True):
    """A canary's end. Kind "canary"."""

    rollout: Digest
    canary: Canary


class Released(_Body, frozen=True, kw_only=True):
    """The subject has all traffic. Kinds "promotion" and "rollback"."""

    rollout: Digest
    target: str
    repository: str
    baseline: Digest | None
    """What had it before."""


class Phase(enum.Enum):
    """How far a rollout is."""

    STARTED = "started"
    JUDGED = "judged"
    """Its canary passed."""
    SHIFTING = "shifting"
    """The gate allowed it, and the target was or is about to be told."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A promotion or a rollback as the ledger knows it."""

    id: Digest
    action: Action
    digest: Digest
    repository: str
    target: str
    baseline: Digest | None
    phase: Phase = Phase.STARTED
    canary: Canary | None = None
    """Its result, where it passed."""


@dataclass(frozen=True, slots=True)
class Past:
    """A release that one could go back to."""

    digest: Digest
    repository: str


@dataclass(frozen=True, slots=True)
class History:
    """An environment's releases, and what is under way there."""

    releases: tuple[Past, ...]
    """The last one that was released and the ones before it, newest first; each once, and none that was left by a
    rollback."""
    open: Rollout | None
    last_index: int
    """Of the newest entry that was read; -1 where there is none."""

    def before(self, current: str | None) -> tuple[Past, ...]:
        """Return what may be gone back to from what runs now, the best first."""
        digests = [one.digest for one in self.releases]
        if current in digests:
            return self.releases[digests.index(Digest(str(current))) + 1 :]
        return self.releases


def read_history(entries: Iterable[Entry]) -> History:
    """Read an environment's entries of the kinds `KINDS`, oldest first.

    Raises:
        HistoryUnreadableError: an entry is none that this version writes.
    """
    releases: list[Past] = []
    current: Rollout | None = None
    last = -1
    for entry in entries:
        last = entry.index
        if entry.kind in {"promotion", "rollback"}:
            released = read_body(entry, Released)
            _release(releases, entry, released)
            current = _ended(current, released.rollout)
        elif entry.kind == "canary":
            result = read_body(entry, CanaryResult)
            if current is not None and current.id == result.rollout and result.canary.verdict == "pass":
                current = replace(current, phase=Phase.JUDGED, canary=result.canary)
        else:
            current = _step(current, entry)
    return History(tuple(reversed(releases)), current, last)


def _release(releases: list[Past], entry: Entry, released: Released) -> None:
    digests = [one.digest for one in releases]
    if entry.kind == "rollback" and entry.subject in digests:
        del releases[digests.index(entry.subject) + 1 :]
    elif entry.subject in digests:
        del releases[digests.index(entry.subject)]
        releases.append(Past(entry.subject, released.repository))
    else:
        releases.append(Past(entry.subject, released.repository))


def _step(current: Rollout | None, entry: Entry) -> Rollout | None:
    step = read_body(entry, Step)
    if step.step == "started":
        return Rollout(entry.hash, step.action, entry.subject, step.repository, step.target, step.baseline)
    if step.step in {"aborted", "failed"}:
        return _ended(current, step.rollout)
    if step.step == "shifting" and current is not None and current.id == step.rollout:
        return replace(current, phase=Phase.SHIFTING)
    return current


def _ended(current: Rollout | None, rollout: Digest | None) -> Rollout | None:
    return None if current is not None and current.id == rollout else current


def read_body(entry: Entry, kind: type[T]) -> T:
    """Read what an entry says.

    Raises:
        HistoryUnreadableError: it is none that this version writes.
    """
    try:
        return decode_json(entry.body, kind)
    except MalformedError as error:
        raise HistoryUnreadableError(
            f"entry {entry.index} of the ledger, of the kind '{entry.kind}', cannot be read: {error}",
            hint="It was written by another version of pratique, or by hand.",
        ) from error


class Act(enum.Enum):
    """What is left to do of an open rollout."""

    ABORT = "abort"
    """Give the old one all traffic, and record that."""
    RELEASE = "release"
    """Ask the gate anew, then give the new one all traffic."""
    CONFIRM = "confirm"
    """It has all traffic: check its health, and record that."""
    FAIL = "fail"
    """The target does something that no rollout of ours asked for: record that, and let a person see to it."""


def next_act(rollout: Rollout, deployment: Deployment) -> Act:
    """Decide what follows from what the ledger has of a rollout, and what its target says that it runs."""
    has_traffic = deployment.stable == rollout.digest and deployment.candidate is None
    if rollout.phase is Phase.SHIFTING or rollout.action == "rollback":
        return Act.CONFIRM if has_traffic else Act.RELEASE
    if deployment.stable != rollout.baseline:
        return Act.FAIL
    return Act.RELEASE if rollout.phase is Phase.JUDGED else Act.ABORT
