"""One environment's pages of the ledger: begins a rollout where none is open, and adds to it only while it is ours.

The ledger is the lock. A rollout begins on the condition that nothing was written since the history was read, so of two
that begin at once one finds the other's. A process that was thought dead and is not finds that another took its rollout
over before it can write, and every step is written before the target is told: so it can move no traffic any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pratique.release.errors import ConflictError, UnavailableError
from pratique.release.ledger.interface import Entry, EntryKind, Ledger
from pratique.release.promotion.errors import RolloutLostError, RolloutOpenError
from pratique.release.promotion.history import KINDS, CanaryResult, History, Released, Rollout, Step, read_history
from pratique.release.values import Digest

__all__ = ["Book"]

_MAX_TRIES: Final = 20
"""Others write too, about other artifacts and environments."""


@dataclass
class Book:
    """Reads and writes one environment's entries, in the name of one actor."""

    ledger: Ledger
    environment: str
    actor: str
    _last_index: int = field(default=-1, init=False)
    """Of the newest entry when we wrote last; where it is another, the rollout is not ours any more."""

    def history(self) -> History:
        """Return what the ledger knows of the environment."""
        return read_history(self.ledger.entries(kinds=KINDS, environment=self.environment))

    def begin(self, digest: Digest, step: Step) -> Rollout:
        """Begin a rollout.

        Raises:
            RolloutOpenError: another is not finished.
        """
        entry = self._append("rollout", digest, step, must_be_open=None)
        return Rollout(entry.hash, step.action, digest, step.repository, step.target, step.baseline)

    def take_over(self, rollout: Rollout, reason: str) -> None:
        """Take an open rollout from the process that began it.

        Raises:
            RolloutLostError: it is not open any more.
        """
        self._last_index = self.history().last_index
        self.add("rollout", rollout, self.step(rollout, "taken_over", reason))

    def add(self, kind: EntryKind, rollout: Rollout, body: Step | CanaryResult | Released) -> None:
        """Add an entry to a rollout of ours.

        Raises:
            RolloutLostError: it is ours no more.
        """
        self._append(kind, rollout.digest, body, must_be_open=rollout)

    def require_ours(self, rollout: Rollout) -> None:
        """Make sure that nobody took the rollout over.

        Raises:
            RolloutLostError: somebody did.
        """
        self._require_ours(rollout, self.history())

    @staticmethod
    def step(rollout: Rollout, step: str, reason: str = "") -> Step:
        """Return a step of a rollout, to be added."""
        return Step(
            step=step,  # type: ignore[arg-type]  # callers give literals; msgspec checks what is read
            action=rollout.action,
            target=rollout.target,
            repository=rollout.repository,
            rollout=rollout.id,
            baseline=rollout.baseline,
            reason=reason,
        )

    def _append(
        self, kind: EntryKind, digest: Digest, body: Step | CanaryResult | Released, *, must_be_open: Rollout | None
    ) -> Entry:
        for _ in range(_MAX_TRIES):
            size = self.ledger.head().size
            history = self.history()
            if must_be_open is not None:
                self._require_ours(must_be_open, history)
            elif history.open is not None:
                raise _still_open(history.open, self.environment)
            try:
                entry = self.ledger.append(
                    kind, digest, body, environment=self.environment, actor=self.actor, expected_size=size
                )
            except ConflictError:
                continue
            self._last_index = entry.index
            return entry
        raise UnavailableError(f"the ledger grew {_MAX_TRIES} times while an entry was to be added")

    def _require_ours(self, rollout: Rollout, history: History) -> None:
        if history.open is None or history.open.id != rollout.id or history.last_index != self._last_index:
            raise RolloutLostError(
                f"the {rollout.action} {rollout.id} of '{self.environment}' was taken over or ended by somebody else",
                hint="The ledger's last entries of this environment say by whom.",
            )


def _still_open(rollout: Rollout, environment: str) -> RolloutOpenError:
    return RolloutOpenError(
        f"the {rollout.action} {rollout.id} of {rollout.digest} to '{environment}' is not finished",
        hint="Wait for it. Where its process is gone, finish it: pratique promote --resume.",
    )
