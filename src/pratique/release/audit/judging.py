"""What an audit's findings come to. Pure: no registry, no ledger, no clock.

Whose word counts is the policy's to say: a link about signed statements holds where the gate's rule of that name
passes now. Without a policy, or without that rule, such a link is undecided: somebody signed, nobody says who may.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pratique.release.audit.events import judge_events
from pratique.release.audit.report import Fact, Link, LinkName, Report, Verdict, worst
from pratique.release.components import read_components
from pratique.release.errors import EvidenceError
from pratique.release.ledger.interface import Entry
from pratique.release.policy.decision import Decision, Outcome, RuleName, RuleResult, Unknown
from pratique.release.predicates import EVALUATION, PROVENANCE, RELEASE, SBOM, Evaluation
from pratique.release.signing.interface import Attestation, Dossier
from pratique.release.slsa import Provenance
from pratique.release.triage.places import Place
from pratique.release.values import Subject

__all__ = ["Broken", "Findings", "make_report"]

_VERDICTS: Final[dict[Outcome, Verdict]] = {
    "pass": "holds",
    "fail": "broken",
    "undecided": "undecided",
    "waived": "broken",
}
"""What break-glass waived does not hold: somebody answered for it."""


@dataclass(frozen=True, slots=True)
class Broken:
    """What was looked at and is not what it must be."""

    reason: str


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was read."""

    subject: Subject
    now: datetime
    ledger_size: int | Broken | Unknown
    """How many entries were verified, every link and every head."""
    entries: tuple[Entry, ...]
    """Of the whole ledger that are about the subject, and all revocations; none where the ledger does not hold."""
    places: tuple[Place, ...] | Unknown
    """Where anything runs."""
    dossier: Dossier | Broken | Unknown
    decision: Decision | Broken | Unknown
    """What the gate says now."""


def make_report(found: Findings) -> Report:
    """Say of every link whether it holds, and of the whole."""
    events = judge_events(found.entries, found.subject, found.dossier if isinstance(found.dossier, Dossier) else None)
    links = tuple(_links(found))
    dossier = found.dossier
    unproved = dossier.unverified if isinstance(dossier, Dossier) else ()
    return Report(
        repository=found.subject.repository,
        digest=found.subject.digest,
        audited_at=found.now,
        policy=found.decision.policy if isinstance(found.decision, Decision) else None,
        verdict=worst((*(one.verdict for one in links), *(one.verdict for one in events))),
        links=links,
        events=events,
        unproved=tuple(Fact(name=one.where, value=one.reason) for one in unproved),
    )


def _links(found: Findings) -> Iterator[Link]:
    yield _ledger(found.ledger_size)
    yield _running(found)
    yield _ruled(found, "signature", "signature", RELEASE)
    yield _ruled(found, "revocation", "revocation", "")
    yield _ruled(found, "source", "provenance", PROVENANCE)
    yield _contents(found)
    yield _evidence(found.dossier)
    yield _gate(found.decision)


def _ledger(size: int | Broken | Unknown) -> Link:
    if isinstance(size, int):
        return Link(name="ledger", verdict="holds", reason=f"every link and every signed head of {size} entries")
    return _not_known("ledger", size)


def _not_known(name: LinkName, what: Broken | Unknown) -> Link:
    return Link(name=name, verdict="broken" if isinstance(what, Broken) else "undecided", reason=what.reason)


def _running(found: Findings) -> Link:
    if isinstance(found.places, Unknown):
        return _not_known("running", found.places)
    here = [one for one in found.places if one.digest == found.subject.digest]
    facts = tuple(
        Fact(name=one.environment, value=f"{one.role} on {one.target} since {one.since.isoformat()}, entry {one.entry}")
        for one in here
    )
    reason = "by the ledger it takes traffic" if here else "by the ledger it takes no traffic anywhere"
    return Link(name="running", verdict="holds", reason=reason, facts=facts)


def _ruled(found: Findings, name: LinkName, rule: RuleName, predicate_type: str) -> Link:
    """Judge by a rule of the policy, and show what the statements say that it counted."""
    if not isinstance(found.decision, Decision):
        return _not_known(name, found.decision)
    result = next((one for one in found.decision.rules if one.rule == rule), None)
    if result is None:
        return Link(name=name, verdict="undecided", reason=f"the policy has no rule '{rule}': whose word counts?")
    facts = tuple(_said(found.dossier, result, predicate_type))
    reason = "; ".join(one.message for one in result.reasons) or f"the rule '{rule}' passes now"
    return Link(name=name, verdict=_VERDICTS[result.outcome], reason=reason, facts=facts)


def _contents(found: Findings) -> Link:
    """Say what is inside: a bill of materials; where a policy asks for none, as models' do, what was measured."""
    rules = {one.rule for one in found.decision.rules} if isinstance(found.decision, Decision) else set()
    if "evaluation" in rules and "sbom" not in rules:
        return _ruled(found, "evaluation", "evaluation", EVALUATION)
    return _ruled(found, "sbom", "sbom", SBOM)


def _said(dossier: Dossier | Broken | Unknown, result: RuleResult, predicate_type: str) -> Iterator[Fact]:
    counted = {one.statement: one for one in result.evidence if one.predicate_type == predicate_type}
    for one in dossier.attestations if isinstance(dossier, Dossier) else ():
        if one.statement.digest in counted:
            party = counted[one.statement.digest].party
            yield Fact(name="signed by", value=f"{one.signer}, '{party}' in the policy")
            if one.signed_at is not None:
                yield Fact(name="signed at", value=one.signed_at.isoformat())
            yield Fact(name="statement", value=one.statement.digest)
            yield from _content(one)


def _content(one: Attestation) -> Iterator[Fact]:
    try:
        if one.statement.predicate_type == PROVENANCE:
            yield from _provenance(one.statement.read(Provenance))
        elif one.statement.predicate_type == SBOM:
            yield Fact(name="components", value=str(len(read_components(one.statement.predicate))))
        elif one.statement.predicate_type == EVALUATION:
            for check in one.statement.read(Evaluation).checks:
                yield Fact(name=check.name, value=f"{check.value:g} in {check.num_samples} samples")
    except EvidenceError as error:  # the rule says that it is malformed, too
        yield Fact(name="unreadable", value=error.message)


def _provenance(said: Provenance) -> Iterator[Fact]:
    yield Fact(name="builder", value=said.run_details.builder.id)
    if said.run_details.metadata.invocation_id:
        yield Fact(name="build", value=said.run_details.metadata.invocation_id)
    for one in said.build_definition.resolved_dependencies:
        kind = str(one.annotations.get("kind", one.name))
        if "gitCommit" in one.digest:
            yield Fact(name="source", value=one.uri)
            yield Fact(name="commit", value=one.digest["gitCommit"])
        elif kind == "base":
            digest = f"sha256:{one.digest.get('sha256')}"
            yield Fact(name="base", value=one.name if one.name.endswith(f"@{digest}") else f"{one.name} {digest}")


def _evidence(dossier: Dossier | Broken | Unknown) -> Link:
    if not isinstance(dossier, Dossier):
        return _not_known("evidence", dossier)
    facts = tuple(
        Fact(name=one.statement.predicate_type, value=f"{one.statement.digest} by {one.signer}")
        for one in dossier.attestations
    )
    if not facts:
        return Link(name="evidence", verdict="broken", reason="nothing that is signed lies beside the image")
    return Link(name="evidence", verdict="holds", reason=f"{len(facts)} signed statements verify now", facts=facts)


def _gate(decision: Decision | Broken | Unknown) -> Link:
    if not isinstance(decision, Decision):
        return _not_known("gate", decision)
    facts = tuple(
        Fact(name=one.rule, value="; ".join((one.outcome, *(why.message for why in one.reasons))))
        for one in decision.rules
    )
    verdict: Verdict = {"allow": "holds", "block": "broken", "undecided": "undecided"}[decision.verdict]  # type: ignore[assignment]  # literals
    reason = f"for '{decision.environment}' the gate says now: {decision.verdict}"
    if decision.break_glass is not None:
        reason += f"; BREAK-GLASS by {', '.join(decision.break_glass.people)}"
        verdict = worst((verdict, "broken"))
    return Link(name="gate", verdict=verdict, reason=reason, facts=facts)
