"""Which statements count for a rule. Pure; every rule chooses by this module, so that there is one answer.

A statement counts only when it has the rule's predicate type, was signed by a party that the rule names, is about this
digest and no other, can be read without doubt, and neither it nor its bundle nor its key is revoked. Of several:

1. Measurements (SBOM, scan, diff, provenance, hygiene, evaluation, canary): the latest by a time that cannot be made
   later, and each that has no such time. All that count must pass. Of scans and canaries the time is the one that
   their signer wrote into them. Of others it is when they were signed under a certificate, which lives for minutes.
   What a key signed has no such time: anybody can have an old signature stamped or logged today. So who can write to
   the registry can add old statements, which stay old, or only make it worse; and cannot make new ones.
   A wrong one is taken out of the way by revoking its statement. Revoked bundles do not count either; but a bundle can
   be written anew around the same signature, so that alone keeps nobody out.
2. Permissions (signature, review, approval, VEX): each counts by itself, for as long as it says; they are withdrawn
   by revocation, and a VEX statement also by a later one of the same author.

Removing a statement leaves an older one in its place. That is bounded by the ages that rules allow, and found where
the ledger recorded the statement.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypeVar

from pratique.release.errors import EvidenceError
from pratique.release.policy.decision import Code, Evidence, Facts, Outcome, Reason, RuleName, RuleResult, Unknown
from pratique.release.policy.document import Document
from pratique.release.policy.people import is_person, person
from pratique.release.signing.interface import Attestation, Dossier
from pratique.release.values import CertificateIdentity, Digest, KeyIdentity

__all__ = [
    "MAX_SKEW",
    "Accepted",
    "Case",
    "Found",
    "Query",
    "Read",
    "find",
    "latest",
    "measurements",
    "read_all",
    "reason",
    "result",
    "undecided",
]

MAX_SKEW: Final = timedelta(minutes=5)
"""How far clocks may be apart; what is later than that from now was not said yet."""
_MAX_REASONS: Final = 50

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Case:
    """What a decision is made over."""

    document: Document
    dossier: Dossier
    facts: Facts
    sboms: dict[Digest, int] = field(default_factory=dict)
    """The SBOM statements that count, and how many of their components have a purl."""
    authors: frozenset[str] = frozenset()
    """E-mail addresses of who wrote the source, as `person` writes them."""

    def is_author(self, party: str) -> bool:
        """Whether a party of the policy wrote the source."""
        entry = self.document.signers[party]
        names = {*entry.emails, *(identity.subject for identity in entry.identities if identity.subject)}
        return not self.authors.isdisjoint(map(person, names))

    @property
    def unknown_author(self) -> str:
        """Say why it is not known who wrote the source; empty where it is."""
        if not self.authors:
            return "it is not known who wrote the source: provenance names no authors, and none were given"
        strange = sorted(author for author in self.authors if not is_person(author))
        return f"an author of the source is '{strange[0][:100]}', which is no e-mail address" if strange else ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A statement that counts, and whose it is by the policy."""

    attestation: Attestation
    party: str

    @property
    def digest(self) -> Digest:
        """Of the statement."""
        return self.attestation.statement.digest

    @property
    def evidence(self) -> Evidence:
        """What is written of it into the decision."""
        return Evidence(
            statement=self.digest,
            bundle=self.attestation.bundle,
            predicate_type=self.attestation.statement.predicate_type,
            party=self.party,
            signer=str(self.attestation.signer),
            signed_at=self.attestation.signed_at,
        )


@dataclass(frozen=True, slots=True)
class Found:
    """What lies there of one predicate type."""

    accepted: tuple[Accepted, ...]
    broken: tuple[Reason, ...]
    """Signed by an accepted party, and unreadable: an older one must not take its place."""
    ignored: tuple[Reason, ...]
    """What anybody may have put there; it neither helps nor harms."""


@dataclass(frozen=True, slots=True)
class Read(Generic[T]):
    """A statement that counts, and what it says."""

    accepted: Accepted
    content: T


@dataclass(frozen=True, slots=True)
class Query(Generic[T]):
    """Which measurements a rule asks for."""

    predicate_type: str
    names: Sequence[str]
    kind: type[T]
    what: str
    """In words, for messages: "an SBOM"."""
    mend: str
    """What to do where there is none."""
    time_of: Callable[[T], datetime] | None = None
    """The time inside the statement, where it has one."""


def reason(code: Code, message: str, *, mend: str, statement: Digest | None = None) -> Reason:
    """Write a reason."""
    return Reason(code=code, message=message, mend=mend, statement=statement)


def result(rule: RuleName, reasons: Iterable[Reason], counted: Iterable[Accepted] = ()) -> RuleResult:
    """Write a result: it fails where there is a reason."""
    found = tuple(reasons)
    outcome: Outcome = "fail" if found else "pass"
    if len(found) > _MAX_REASONS:
        rest = len(found) - _MAX_REASONS
        found = (*found[:_MAX_REASONS], reason(found[-1].code, f"… and {rest} more", mend="See those before."))
    evidence = {one.attestation.bundle: one.evidence for one in counted}
    return RuleResult(rule=rule, outcome=outcome, reasons=found, evidence=tuple(evidence.values()))


def undecided(rule: RuleName, unknown: Unknown) -> RuleResult:
    """Write that a rule could not be judged."""
    why = reason("unknown", unknown.reason, mend="Try again when it answers; nothing ships until then.")
    return RuleResult(rule=rule, outcome="undecided", reasons=(why,))


def find(case: Case, predicate_type: str, names: Sequence[str]) -> Found:
    """Sort what lies there of a type into what counts and what does not."""
    accepted: list[Accepted] = []
    broken: list[Reason] = []
    ignored: list[Reason] = [
        reason("unproved", f"{one.where} proves nothing: {one.reason}", mend="Sign it again and attach it.")
        for one in case.dossier.unverified
        if one.predicate_type in {predicate_type, ""}
    ]
    for attestation in case.dossier.attestations:
        if attestation.statement.predicate_type != predicate_type:
            continue
        party = next((name for name in names if case.document.accepts(name, attestation.signer)), None)
        if party is None:
            ignored.append(_stranger(attestation))
        elif (why := _why_ignored(case, attestation, party)) is not None:
            ignored.append(why)
        elif (why := _why_broken(case, attestation)) is not None:
            broken.append(why)
        else:
            accepted.append(Accepted(attestation, party))
    return Found(tuple(accepted), tuple(broken), tuple(ignored))


def _stranger(attestation: Attestation) -> Reason:
    return reason(
        "stranger",
        f"a statement was signed by {attestation.signer}, who is not named for this",
        mend="Have an accepted signer make it, or name this one in the policy.",
        statement=attestation.statement.digest,
    )


def _why_ignored(case: Case, attestation: Attestation, party: str) -> Reason | None:
    digest = attestation.statement.digest
    if _is_revoked(case.facts, attestation):
        return reason(
            "revoked",
            f"a statement by '{party}' is revoked, or its bundle or its key is",
            mend="Make the evidence anew, with a key that holds.",
            statement=digest,
        )
    if attestation.statement.subjects != (case.dossier.subject.digest,):
        return reason(
            "other_subject",
            f"a statement by '{party}' is about {', '.join(attestation.statement.subjects)[:400]}, not about this"
            " artifact alone",
            mend="Make the evidence for this digest.",
            statement=digest,
        )
    return None


def _is_revoked(facts: Facts, attestation: Attestation) -> bool:
    if isinstance(facts.revoked, Unknown):
        return False  # the rule "revocation" is undecided then, and nothing is allowed
    key = attestation.signer.key if isinstance(attestation.signer, KeyIdentity) else attestation.bundle
    return not facts.revoked.isdisjoint({attestation.bundle, attestation.statement.digest, key})


def _why_broken(case: Case, attestation: Attestation) -> Reason | None:
    digest = attestation.statement.digest
    if (problem := _json_problem(attestation.statement.payload)) is not None:
        return _malformed(problem, digest)
    if attestation.signed_at is not None and attestation.signed_at > case.facts.now + MAX_SKEW:
        return _from_the_future(f"signed at {attestation.signed_at.isoformat()}", case, digest)
    return None


def _malformed(problem: str, digest: Digest) -> Reason:
    return reason(
        "malformed",
        f"a statement cannot be read: {problem}",
        mend="Make it again with a version that this gate reads; revoke this one.",
        statement=digest,
    )


def _from_the_future(what: str, case: Case, digest: Digest) -> Reason:
    return reason(
        "from_the_future",
        f"a statement is {what}, and it is {case.facts.now.isoformat()} now",
        mend="Correct the clock that is wrong, and make the statement again.",
        statement=digest,
    )


def read_all(found: Found, kind: type[T]) -> tuple[tuple[Read[T], ...], tuple[Reason, ...]]:
    """Parse the predicates of what counts; what cannot be parsed is broken."""
    read: list[Read[T]] = []
    broken = list(found.broken)
    for one in found.accepted:
        try:
            read.append(Read(one, one.attestation.statement.read(kind)))
        except EvidenceError as error:
            broken.append(_malformed(error.message, one.digest))
    return tuple(read), tuple(broken)


def measurements(case: Case, query: Query[T]) -> tuple[tuple[Read[T], ...], tuple[Reason, ...]]:
    """Return every measurement that can be read, not yet chosen from, and why it is not enough."""
    found = find(case, query.predicate_type, query.names)
    read, reasons = read_all(found, query.kind)
    if query.time_of is not None:
        reasons = (*reasons, *(why for one in read if (why := _time_problem(case, query.time_of(one.content), one))))
    if not read and not reasons:
        missing = reason("missing", f"there is no {query.what} by {' or '.join(query.names)}", mend=query.mend)
        reasons = (missing, *found.ignored)
    return read, reasons


def _time_problem(case: Case, at: datetime, read: Read[Any]) -> Reason | None:
    signed_at = read.accepted.attestation.signed_at
    bound = case.facts.now if signed_at is None else min(signed_at, case.facts.now)
    if at <= bound + MAX_SKEW:
        return None
    return _from_the_future(f"of {at.isoformat()}, later than it was signed", case, read.accepted.digest)


def latest(read: Sequence[Read[T]], time_of: Callable[[T], datetime] | None = None) -> tuple[Read[T], ...]:
    """Choose the measurements that count: the latest, and each whose time could have been made later."""
    timed = [(at, one) for one in read if (at := _time(one, time_of)) is not None]
    newest = max((at for at, _ in timed), default=None)
    untimed = [one for one in read if _time(one, time_of) is None]
    return (*(one for at, one in timed if at == newest), *untimed)


def _time(one: Read[T], time_of: Callable[[T], datetime] | None) -> datetime | None:
    if time_of is not None:
        return time_of(one.content)
    attestation = one.accepted.attestation
    return attestation.signed_at if isinstance(attestation.signer, CertificateIdentity) else None


class _NotStrictError(ValueError):
    """JSON that two readers may read differently."""


def _json_problem(payload: bytes) -> str | None:
    """Say what is ambiguous in signed JSON. RFC 8259, 4: of a name that stands twice, readers take either."""
    try:
        json.loads(payload, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return str(error)[:400] or "it is nested too deeply"
    return None


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        twice = next(name for index, (name, _) in enumerate(pairs) if any(name == other for other, _ in pairs[:index]))
        raise _NotStrictError(f"the member '{twice[:100]}' stands twice in one object")


def _no_constant(text: str) -> None:
    raise _NotStrictError(f"'{text}' is no JSON")
