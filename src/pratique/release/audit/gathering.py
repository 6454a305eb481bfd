"""Reads what an audit is made of: the ledger, verified anew; the registry's evidence; and what the gate says now.

What does not answer is unknown; what answers, and is not what it must be, is broken. Neither ends an audit: the report
says which link it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from pratique.core.clock import Clock
from pratique.core.errors import EnvironmentFaultError, RefusedError
from pratique.release.audit.judging import Broken, Findings, make_report
from pratique.release.audit.report import Report
from pratique.release.errors import NotFoundError
from pratique.release.ledger.interface import Entry, Ledger
from pratique.release.policy.decision import Decision, Unknown
from pratique.release.policy.gate import Gate, Question
from pratique.release.signing.interface import Dossier
from pratique.release.triage.inventory import subjects_of
from pratique.release.triage.places import PLACE_KINDS, read_places
from pratique.release.values import Digest, Subject

__all__ = ["Auditor", "find_subject"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Auditor:
    """Where an audit reads."""

    ledger: Ledger
    load_dossier: Callable[[Subject], Dossier]
    gate: Gate | Unknown
    """Unknown: there is no policy that can be read."""
    environment: str
    clock: Clock

    def audit(self, subject: Subject) -> Report:
        """Verify every link of a digest now."""
        size = _found(self.ledger.verify)
        does_hold = isinstance(size, int)
        unknown = Unknown("the ledger was not verified")
        dossier = _found(lambda: self.load_dossier(subject))
        entries = _found(lambda: self._entries(subject)) if does_hold else ()
        places = _found(lambda: read_places(self.ledger.entries(kinds=PLACE_KINDS))) if does_hold else unknown
        return make_report(
            Findings(
                subject=subject,
                now=datetime.fromtimestamp(self.clock.epoch(), UTC),
                ledger_size=size if isinstance(entries, tuple) else entries,
                entries=entries if isinstance(entries, tuple) else (),
                places=places if isinstance(places, tuple) else Unknown(places.reason),
                dossier=dossier,
                decision=self._decide(subject, dossier) if does_hold else unknown,
            )
        )

    def _entries(self, subject: Subject) -> tuple[Entry, ...]:
        about = {one.index: one for one in self.ledger.entries(subject=subject.digest)}
        about.update((one.index, one) for one in self.ledger.entries(kinds=("revocation",)))
        return tuple(about.values())

    def _decide(self, subject: Subject, dossier: Dossier | Broken | Unknown) -> Decision | Broken | Unknown:
        """Ask the gate about the evidence that the report is about; where that was not read, it says why itself."""
        if isinstance(self.gate, Unknown):
            return self.gate
        gate = replace(self.gate, load_dossier=lambda _: dossier) if isinstance(dossier, Dossier) else self.gate
        return _found(lambda: gate.look(Question(subject, self.environment)).decision)


def find_subject(ledger: Ledger, digest: Digest) -> Subject:
    """Say in which repository a digest lies, by the ledger's last entry that names it.

    Raises:
        NotFoundError: none does.
    """
    found = subjects_of(ledger.entries(subject=digest, kinds=("decision", *PLACE_KINDS)))
    if not found:
        raise NotFoundError(
            f"no entry of the ledger says in which repository {digest} lies", hint="Name it: --repository."
        )
    return found[-1]


def _found(ask: Callable[[], T]) -> T | Broken | Unknown:
    try:
        return ask()
    except EnvironmentFaultError as error:
        return Unknown(error.message)
    except RefusedError as error:
        return Broken(error.message)
