"""Audits: tampering, gaps and hostile content first, then the chain that holds; on evidence that is really signed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta

import msgspec
import pytest
from tests.unit.release.policy.evidence_set import (
    COMMIT,
    NOW,
    OTHER,
    SUBJECT,
    Piece,
    attest,
    break_glass,
    dossier,
    policy,
)
from tests.unit.release.policy.shell_parts import ListLedger, clock

from pratique.release.audit.gathering import Auditor, find_subject
from pratique.release.audit.judging import Findings, make_report
from pratique.release.audit.rendering import render_html, render_text
from pratique.release.audit.report import Event, Fact, Link, Report, Verdict, worst
from pratique.release.errors import NotFoundError, UnavailableError, VerificationError
from pratique.release.ledger.recording import RecordedStatement
from pratique.release.policy.acts import Revocation
from pratique.release.policy.decision import BreakGlassUse, Evidence, Unknown
from pratique.release.policy.gate import Gate, Question
from pratique.release.predicates import APPROVAL, CANARY, PROVENANCE, SBOM, Canary
from pratique.release.promotion.history import CanaryResult, Released, Step
from pratique.release.signing.interface import Dossier, Unverified
from pratique.release.values import Digest, KeyIdentity, Subject, digest_of

pytestmark = pytest.mark.unit

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[2J\u202egnp.exe'\""


@dataclass
class Scene:
    """An image that went through the gate to production."""

    book: ListLedger = field(default_factory=ListLedger)
    evidence: Dossier = field(default_factory=dossier)
    registry_error: Exception | None = None
    has_policy: bool = True
    num_loads: int = 0

    def load(self, subject: Subject) -> Dossier:
        self.num_loads += 1
        if self.registry_error is not None:
            raise self.registry_error
        return self.evidence

    def gate(self) -> Gate:
        return Gate(policy=policy(), load_dossier=self.load, ledger=self.book, clock=clock())

    def record_evidence(self) -> None:
        for one in self.evidence.attestations:
            body = RecordedStatement(
                statement=one.statement.digest, bundle=one.bundle, predicate_type=one.statement.predicate_type
            )
            self.book.append("evidence", SUBJECT.digest, body, actor="ci")

    def decide(self) -> None:
        self.gate().decide_and_record(Question(SUBJECT, "production"), actor="ci")

    def promote(self, digest: Digest = SUBJECT.digest, *, rollback: bool = False) -> None:
        body = Released(rollout=OTHER, target="local", repository=SUBJECT.repository, baseline=OTHER)
        kind = "rollback" if rollback else "promotion"
        self.book.append(kind, digest, body, environment="production", actor="ops")  # type: ignore[arg-type]  # both are kinds

    def audit(self) -> Report:
        gate = self.gate() if self.has_policy else Unknown("there is no policy")
        return Auditor(self.book, self.load, gate, "production", clock()).audit(SUBJECT)


@pytest.fixture
def scene() -> Scene:
    made = Scene()
    made.promote(digest_of(b"the image in production"))
    made.record_evidence()
    made.decide()
    made.promote()
    return made


def link(report: Report, name: str) -> Link:
    return next(one for one in report.links if one.name == name)


def event(report: Report, kind: str) -> Event:
    return [one for one in report.events if one.kind == kind][-1]


def test_a_ledger_that_was_changed_proves_nothing_else(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> int:
        raise VerificationError("entry 3 was changed")

    monkeypatch.setattr(scene.book, "verify", broken)
    report = scene.audit()
    assert (link(report, "ledger").verdict, report.exit_code) == ("broken", 1)
    assert report.events == ()
    assert link(report, "running").verdict == "undecided"


def test_the_evidence_that_the_gate_judges_is_the_one_that_is_shown(scene: Scene) -> None:
    """Read twice, it might be another the second time; and each piece would be verified twice."""
    scene.num_loads = 0
    report = scene.audit()
    assert (scene.num_loads, link(report, "gate").verdict) == (1, "holds")


def test_evidence_that_was_taken_away_is_noticed(scene: Scene) -> None:
    gone = scene.evidence.attestations[0].statement.digest
    scene.evidence = Dossier(SUBJECT, scene.evidence.attestations[1:], ())
    report = scene.audit()
    broken = [one for one in report.events if one.verdict == "broken"]
    assert {one.kind for one in broken} >= {"evidence"}
    assert all(gone in one.reason for one in broken if one.kind == "evidence")
    assert report.exit_code == 1


def test_a_promotion_that_no_gate_allowed_is_broken() -> None:
    scene = Scene()
    scene.record_evidence()
    scene.promote()
    assert event(scene.audit(), "promotion").reason == "no decision of the gate came before it"


def test_a_promotion_after_a_block_is_broken(scene: Scene) -> None:
    whole, scene.evidence = scene.evidence, Dossier(SUBJECT, scene.evidence.attestations[1:], ())
    scene.decide()
    scene.evidence = whole
    scene.promote()
    found = event(scene.audit(), "promotion")
    assert found.verdict == "broken"
    assert "did not allow it" in found.reason


def test_a_decision_about_another_digest_than_its_entry_is_broken(scene: Scene) -> None:
    decision = scene.gate().look(Question(SUBJECT, "staging")).decision
    scene.book.append("decision", SUBJECT.digest, decision, environment="production", actor="mallory")
    assert event(scene.audit(), "decision").verdict == "broken"


def test_a_rollback_to_what_never_ran_there_is_broken() -> None:
    scene = Scene()
    scene.promote(rollback=True)
    assert event(scene.audit(), "rollback").verdict == "broken"


def test_a_rollback_to_what_ran_there_holds(scene: Scene) -> None:
    scene.promote(rollback=True)
    assert event(scene.audit(), "rollback").verdict == "holds"


@pytest.mark.parametrize("what", ["image", "statement", "key"])
def test_what_was_revoked_is_loud_and_broken(scene: Scene, what: str) -> None:
    one = next(one for one in scene.evidence.attestations if isinstance(one.signer, KeyIdentity))
    assert isinstance(one.signer, KeyIdentity)
    digest = {"image": SUBJECT.digest, "statement": one.statement.digest, "key": one.signer.key}[what]
    scene.book.append("revocation", digest, Revocation(what=what, reason="leaked"), actor="security")  # type: ignore[arg-type]  # literals
    report = scene.audit()
    found = event(report, "revocation")
    assert (found.is_loud, found.verdict, report.exit_code) == (True, "broken", 1)


def test_a_revocation_of_something_else_is_not_shown(scene: Scene) -> None:
    scene.book.append("revocation", OTHER, Revocation(what="image", reason="leaked"), actor="security")
    assert "revocation" not in {one.kind for one in scene.audit().events}


def test_break_glass_is_loud(scene: Scene) -> None:
    use = BreakGlassUse(
        people=("ann", "ben"), reasons=("outage",), expires_at=NOW + timedelta(hours=1), waived=("canary",), evidence=()
    )
    scene.book.append("break_glass", SUBJECT.digest, use, environment="production", actor="ann")
    found = event(scene.audit(), "break_glass")
    assert found.is_loud
    assert "ann, ben" in found.summary


def test_a_registry_that_is_away_decides_nothing(scene: Scene) -> None:
    scene.registry_error = UnavailableError("the registry does not answer")
    report = scene.audit()
    assert link(report, "evidence").verdict == "undecided"
    assert event(report, "evidence").verdict == "undecided"
    assert report.exit_code == 3


def test_a_registry_that_has_no_such_image_is_broken(scene: Scene) -> None:
    scene.registry_error = NotFoundError("there is no such image")
    assert (link(scene.audit(), "evidence").verdict, scene.audit().exit_code) == ("broken", 1)


def test_nothing_signed_is_broken(scene: Scene) -> None:
    scene.evidence = Dossier(SUBJECT, (), ())
    assert link(scene.audit(), "evidence").verdict == "broken"


def test_without_a_policy_nobodys_word_counts(scene: Scene) -> None:
    scene.has_policy = False
    report = scene.audit()
    assert {link(report, name).verdict for name in ("signature", "source", "sbom", "gate")} == {"undecided"}
    assert (report.exit_code, report.policy) == (3, None)


def test_entries_that_cannot_be_read_are_undecided_and_shown(scene: Scene) -> None:
    for kind in ("evidence", "decision", "break_glass", "rollout", "canary", "rollback", "revocation"):
        scene.book.append(kind, SUBJECT.digest, {"strange": HOSTILE}, environment="elsewhere", actor="x")
    report = scene.audit()
    strange = [one for one in report.events if one.actor == "x"]
    assert {one.verdict for one in strange} == {"undecided"}
    assert len(strange) == 7


def test_the_whole_chain_holds(scene: Scene) -> None:
    step = Step(step="started", action="promotion", target="local", repository=SUBJECT.repository, baseline=None)
    scene.book.append("rollout", SUBJECT.digest, step, environment="staging", actor="ops")
    canary = Canary(baseline=OTHER, verdict="pass", metrics=(), share=0.05, started_at=NOW, ended_at=NOW)
    scene.book.append("canary", SUBJECT.digest, CanaryResult(rollout=OTHER, canary=canary), actor="ops")
    scene.book.append("build", SUBJECT.digest, {"repository": SUBJECT.repository}, actor="ci")
    report = scene.audit()
    assert [(one.name, one.reason) for one in report.links if one.verdict != "holds"] == []
    assert [(one.kind, one.reason) for one in report.events if one.verdict != "holds"] == []
    assert report.exit_code == 0
    facts = {(one.name, fact.name): fact.value for one in report.links for fact in one.facts}
    assert facts["source", "commit"] == COMMIT
    assert facts["running", "production"].startswith("stable on local")
    assert int(facts["sbom", "components"]) > 0
    assert {one.predicate_type for one in (a.statement for a in scene.evidence.attestations)} >= {CANARY}


def test_the_repository_is_found_in_the_ledger(scene: Scene) -> None:
    assert find_subject(scene.book, SUBJECT.digest) == SUBJECT
    with pytest.raises(NotFoundError):
        find_subject(scene.book, digest_of(b"nowhere"))


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ((), "undecided"),
        (("holds",), "holds"),
        (("holds", "undecided"), "undecided"),
        (("undecided", "broken", "holds"), "broken"),
    ],
)
def test_one_broken_link_breaks_the_chain(verdicts: tuple[Verdict, ...], expected: Verdict) -> None:
    assert worst(verdicts) == expected


def hostile(report: Report) -> Report:
    return msgspec.structs.replace(
        report,
        repository=HOSTILE,
        links=(Link(name="sbom", verdict="holds", reason=HOSTILE, facts=(Fact(name=HOSTILE, value=HOSTILE),)),),
        events=tuple(
            msgspec.structs.replace(one, summary=HOSTILE, reason=HOSTILE, actor=HOSTILE, environment=HOSTILE)
            for one in report.events
        ),
        unproved=(Fact(name=HOSTILE, value=HOSTILE),),
    )


def test_markup_in_evidence_is_text_in_the_page(scene: Scene) -> None:
    page = render_html(hostile(scene.audit()))
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", page)


def test_digests_and_times_are_shown_for_people(scene: Scene) -> None:
    scene.promote()
    page = render_html(scene.audit())
    assert f"before: <code>{OTHER}</code>" in page
    assert re.search(r'<time datetime="(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)[^"]*">\1 \2 UTC</time>', page)
    markup = f"&<b> {digest_of(b'x')} <i>"
    assert f"&amp;&lt;b&gt; <code>{digest_of(b'x')}</code> &lt;i&gt;" in render_html(
        with_summary(scene.audit(), markup)
    )


def with_summary(report: Report, text: str) -> Report:
    return msgspec.structs.replace(
        report, events=tuple(msgspec.structs.replace(one, summary=text) for one in report.events)
    )


def test_the_page_loads_nothing(scene: Scene) -> None:
    page = render_html(scene.audit())
    assert "default-src 'none'" in page
    assert not re.search(r"<(script|link|img|iframe|object|form|base)\b|\bsrc=|url\(|@import", page)


def test_the_text_holds_no_terminal_sequences(scene: Scene) -> None:
    text = render_text(hostile(scene.audit()))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
    assert "\\u{1b}" in text


def test_what_proves_nothing_is_shown_and_breaks_nothing(scene: Scene) -> None:
    scene.evidence = Dossier(SUBJECT, scene.evidence.attestations, (Unverified("sha256:x", "no bundle"),))
    report = scene.audit()
    assert (report.unproved[0].value, report.exit_code) == ("no bundle", 0)
    assert "proves nothing" in render_text(report)


def test_approvals_are_shown_with_their_reasons_and_broken_where_they_are_gone(scene: Scene) -> None:
    kept = [one for one in scene.evidence.attestations if one.statement.predicate_type == APPROVAL]
    for digest in (kept[0].statement.digest, digest_of(b"taken away")):
        body = RecordedStatement(statement=digest, predicate_type=APPROVAL)
        scene.book.append("approval", SUBJECT.digest, body, environment="production", actor="ben")
    good, bad = [one for one in scene.audit().events if one.kind == "approval"]
    assert (good.verdict, bad.verdict) == ("holds", "broken")
    assert "approved for 'production' until" in good.summary
    assert "release 1.4.0" in good.summary


def test_an_approval_that_breaks_the_glass_is_loud_and_a_malformed_one_is_said(scene: Scene) -> None:
    glass = attest(Piece(APPROVAL, break_glass(), "ben", signed_at=None))
    odd = attest(Piece(APPROVAL, {"odd": 1}, "ben", signed_at=None))
    scene.evidence = Dossier(SUBJECT, (*scene.evidence.attestations, glass, odd), ())
    for one in (glass, odd):
        body = RecordedStatement(statement=one.statement.digest, predicate_type=APPROVAL)
        scene.book.append("approval", SUBJECT.digest, body, environment="production", actor="ben")
    first, second = [one for one in scene.audit().events if one.kind == "approval"]
    assert (first.is_loud, first.summary.startswith("BREAK-GLASS")) == (True, True)
    assert second.summary.startswith("a malformed approval")


def test_a_gate_that_was_opened_by_force_does_not_hold(scene: Scene) -> None:
    decision = scene.gate().look(Question(SUBJECT, "production")).decision
    use = BreakGlassUse(people=("ann", "ben"), reasons=("outage",), expires_at=NOW, waived=("canary",), evidence=())
    findings = Findings(
        subject=SUBJECT,
        now=NOW,
        ledger_size=0,
        entries=(),
        places=Unknown("not read"),
        dossier=scene.evidence,
        decision=msgspec.structs.replace(decision, break_glass=use),
    )
    report = make_report(findings)
    assert (link(report, "gate").verdict, "BREAK-GLASS by ann, ben" in link(report, "gate").reason) == ("broken", True)
    assert link(report, "running").verdict == "undecided"


def without(scene: Scene, *rules: str) -> Report:
    """Return the report by a policy that lacks some rules."""
    decision = scene.gate().look(Question(SUBJECT, "production")).decision
    kept = tuple(one for one in decision.rules if one.rule not in rules)
    return make_report(
        Findings(
            subject=SUBJECT,
            now=NOW,
            ledger_size=0,
            entries=(),
            places=(),
            dossier=scene.evidence,
            decision=msgspec.structs.replace(decision, rules=kept),
        )
    )


def test_a_policy_without_a_rule_leaves_its_link_open(scene: Scene) -> None:
    assert link(without(scene, "sbom", "evaluation"), "sbom").verdict == "undecided"


def test_a_policy_of_models_shows_what_was_measured_in_place_of_what_is_inside(scene: Scene) -> None:
    report = without(scene, "sbom")
    assert "sbom" not in {one.name for one in report.links}
    shown = link(report, "evaluation")
    assert shown.verdict == "holds"
    assert "answers" in {one.name for one in shown.facts}


def test_builds_and_bases_are_shown_and_what_is_malformed_is_said(scene: Scene) -> None:
    base = {"name": "base", "digest": {"sha256": "1" * 64}, "annotations": {"kind": "base"}}
    own = {"name": f"host/base@sha256:{'3' * 64}", "digest": {"sha256": "3" * 64}, "annotations": {"kind": "base"}}
    lock = {"name": "lock", "digest": {"sha256": "2" * 64}, "annotations": {"kind": "lock"}}
    said = {
        "buildDefinition": {"buildType": "x", "externalParameters": {}, "resolvedDependencies": [own, base, lock]},
        "runDetails": {"builder": {"id": "ci"}, "metadata": {"invocationId": "run-7"}},
    }
    whole = attest(Piece(PROVENANCE, said, "build"))
    odd = attest(Piece(SBOM, {"odd": 1}, "build"))
    decision = scene.gate().look(Question(SUBJECT, "production")).decision
    counted = {
        "provenance": (whole, PROVENANCE),
        "sbom": (odd, SBOM),
    }
    rules = tuple(
        msgspec.structs.replace(
            one,
            evidence=(
                Evidence(
                    statement=counted[one.rule][0].statement.digest,
                    bundle=OTHER,
                    predicate_type=counted[one.rule][1],
                    party="build",
                    signer="x",
                    signed_at=None,
                ),
            ),
        )
        if one.rule in counted
        else one
        for one in decision.rules
    )
    findings = Findings(
        subject=SUBJECT,
        now=NOW,
        ledger_size=0,
        entries=(),
        places=(),
        dossier=Dossier(SUBJECT, (whole, odd), ()),
        decision=msgspec.structs.replace(decision, rules=rules),
    )
    report = make_report(findings)
    facts = {(one.name, fact.name): fact.value for one in report.links for fact in one.facts}
    assert facts["source", "build"] == "run-7"
    bases = [fact.value for one in report.links for fact in one.facts if fact.name == "base"]
    assert bases == [f"host/base@sha256:{'3' * 64}", f"base sha256:{'1' * 64}"]
    assert "CycloneDX" in facts["sbom", "unreadable"]
