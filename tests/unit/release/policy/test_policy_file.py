"""What is refused as a policy, and how it is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.release.policy.evidence_set import FACTS, IMAGE, POLICY_TEXT, Piece, attest, policy

from pratique.release.policy.document import Identity
from pratique.release.policy.evaluate import evaluate
from pratique.release.policy.explain import explain_policy
from pratique.release.policy.parse import MAX_POLICY_BYTES, PolicyError, parse_policy
from pratique.release.predicates import RELEASE
from pratique.release.promotion.settings import CanarySettings
from pratique.release.signing.interface import Dossier
from pratique.release.values import CertificateIdentity, Digest, KeyIdentity, Subject, digest_of

pytestmark = pytest.mark.unit

BEN = 'emails = ["ben@team.example", "ben@home.example"]'
CHI = 'subject = "chi@team.example"'


def refusal(*edits: tuple[str, str]) -> str:
    with pytest.raises(PolicyError) as caught:
        policy(*edits)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_the_digest_of_a_policy_is_that_of_its_bytes() -> None:
    assert policy().digest == digest_of(POLICY_TEXT.encode())
    assert parse_policy(POLICY_TEXT.encode() + b"\n# a comment\n").digest != policy().digest


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("min_components =", "min_component ="), ("rules.sbom.min_component'", "Did you mean 'min_components'?")),
        (("[rules.hygiene]", "[rules.hygeine]"), ("'rules.hygeine'", "Did you mean 'hygiene'?")),
        (("[break_glass]", "[breakglass]"), ("'breakglass'", "Did you mean 'break_glass'?")),
        ((CHI, CHI + ", regex = true"), ("'signers.chi.identities[0].regex'", "Known here: key, issuer, subject.")),
        (("build_type =", "buildtype ="), ("'rules.provenance.builders[0].buildtype'", "Did you mean 'build_type'?")),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(edit: tuple[str, str], said: tuple[str, ...]) -> None:
    message = refusal(edit)
    assert all(part in message for part in said)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (('signers = ["build"]', 'signers = ["biuld"]'), "there is no signer 'biuld'"),
        (('signers = ["build"]', "signers = []"), "length >= 1"),
        (('reviewers = ["ana", "ben", "chi"]', 'reviewers = ["dan"]'), "rules.dependencies.reviewers: there is no"),
        (('signer = "build"', 'signer = "dan"'), "rules.provenance.builders: there is no signer 'dan'"),
        (('vex_authors = ["ana"]', 'vex_authors = ["dan"]'), "vex_authors: there is no signer 'dan'"),
        ((BEN, "emails = []"), "'ben' counts as a person, and has no emails"),
        ((CHI, 'subject = "*@team.example"'), "'chi' counts as a person, and one pattern may stand for many"),
        ((CHI, 'subject = "*"'), "must not begin with '*'"),
        ((CHI, 'subject = ""'), "an issuer without a subject"),
        ((", " + CHI, ""), "an issuer without a subject"),
        ((CHI, 'subject = "ana@team.example"'), "stands 2 times in signers"),
        ((CHI, 'subject = "BEN@team.example"'), "'ben@team.example' is of ben and of chi"),
        ((BEN, 'emails = ["b@x.example", " Chi@team.example "]'), "'chi@team.example' is of ben and of chi"),
        (('issuer = "https://accounts.team.example", ' + CHI, ""), "either a key, or an issuer and a subject"),
        ((CHI, f'{CHI}, key = "sha256:{"7" * 64}"'), "either a key, or an issuer and a subject"),
        (('"https://accounts.team.example"', '"https://*.team.example"'), "must be exact"),
        (("5" * 64, "5" * 63), "regex"),
        (("5" * 64, "1" * 64), "stands 2 times in signers"),
        (('environments = ["production"]', 'environments = ["prodution"]'), "did you mean 'production'?"),
        (('environments = ["production"]', 'environments = ["zzz"]'), "rules.canary.environments: there is no"),
        (('["staging", "canary", "production"]', '["staging", "canary", "production", "staging"]'), "name of its own"),
        (('repositories = ["registry.example/team/chat"]', 'repositories = ["*"]'), "repositories '*'"),
        (('repositories = ["git+https://github.com/team/chat"]', 'repositories = ["git+https://*"]'), "must be exact"),
        (('"arguments.VERSION" = ["v*"]', '"arguments.VERSION" = ["*/v*"]'), "rules.provenance '*/v*'"),
        (
            ('builder = "https://github.com/team/chat/.github/workflows/release.yml@refs/tags/v*"', 'builder = "*"'),
            "'*'",
        ),
        (('"arguments.VERSION" = ["v*"]', 'target = ["debug"]'), "both required and optional"),
        (('name = "perplexity"', 'name = "answers"'), "'answers' stands twice"),
        (("threshold = 12.5", "threshold = inf"), "must be a number"),
        (("threshold = 12.5", "threshold = nan"), "must be a number"),
        (("max_vex_age_hours = 720", "max_vex_age_hours = inf"), "max_vex_age_hours"),
        (("max_scan_age_hours = 24", "max_scan_age_hours = nan"), "max_scan_age_hours"),
        (('max_severity = "medium"', 'max_severity = "critical"'), "max_severity"),
        (("min_samples = 200", "min_samples = 0"), "min_samples"),
        (("count = 2\nenvironments", "count = 4\nenvironments"), "rules.approvals: 4 approvals of 3 people"),
        (("count = 2\nmax_hours", "count = 1\nmax_hours"), "break_glass.count"),
        (("count = 2\nmax_hours", "count = 4\nmax_hours"), "break_glass: 4 people of 3"),
        (("max_hours = 4", "max_hours = 25"), "break_glass.max_hours"),
        (("schema_version = 1", "schema_version = 2"), "schema_version"),
        (('baseline = "production"', 'baseline = "prodution"'), "baseline: there is no environment 'prodution'"),
        (('baseline = "production"', 'baseline = ["production"]'), "baseline"),
        (("count = 2\nenvironments", 'count = "2"\nenvironments'), "rules.approvals.count"),
        (("[rules.signature]", "[rules.canary.signature]"), "rules.canary"),
        (("[rules.signature]", "[rules.signature]\nsigners = ["), "cannot be read as TOML"),
        (("[rules.sbom]", "[rules.signature]"), "cannot be read as TOML"),
    ],
)
def test_a_policy_that_would_let_too_much_through_is_refused(edit: tuple[str, str], said: str) -> None:
    assert said in refusal(edit)


@pytest.mark.parametrize("rules", ["", "[rules]\n"])
def test_an_empty_rule_set_is_refused(rules: str) -> None:
    text = 'schema_version = 1\nrepositories = ["a/b"]\nenvironments = ["x"]\n[signers]\n' + rules
    with pytest.raises(PolicyError, match="has no rules"):
        parse_policy(text.encode())


def test_rules_without_the_image_s_signature_are_refused() -> None:
    start, end = POLICY_TEXT.index("[rules.signature]"), POLICY_TEXT.index("[rules.sbom]")
    with pytest.raises(PolicyError, match="signature"):
        parse_policy((POLICY_TEXT[:start] + POLICY_TEXT[end:]).encode())


def test_a_scan_without_its_sbom_is_refused() -> None:
    start, end = POLICY_TEXT.index("[rules.sbom]"), POLICY_TEXT.index("[rules.vulnerabilities]")
    with pytest.raises(PolicyError, match=r"rules\.sbom is missing"):
        parse_policy((POLICY_TEXT[:start] + POLICY_TEXT[end:]).encode())


def test_the_least_policy_is_the_signature_alone() -> None:
    text = f"""
        schema_version = 1
        repositories = ["a/b"]
        environments = ["x"]
        [signers.build]
        identities = [{{ key = "sha256:{"1" * 64}" }}]
        [rules.signature]
        signers = ["build"]
    """
    least = parse_policy(text.encode())
    subject = Subject("a/b", IMAGE)
    signed = Piece(RELEASE, {}, "scanner", signed_at=None)
    facts = replace(FACTS, environment="x")
    assert evaluate(least, subject, Dossier(subject, (attest(signed),), ()), facts).verdict == "allow"
    assert evaluate(least, subject, Dossier(subject, (), ()), facts).verdict == "block"
    assert "rule sbom" not in explain_policy(least)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * (MAX_POLICY_BYTES + 1)])
def test_what_is_no_text_or_too_long_is_refused(content: bytes) -> None:
    with pytest.raises(PolicyError):
        parse_policy(content)


def test_an_identity_matches_its_own_kind_of_signer_only() -> None:
    number = Digest("sha256:" + "1" * 64)
    key, certificate = Identity(key=number), Identity(issuer="i", subject="s")
    assert key.matches(KeyIdentity(number))
    assert certificate.matches(CertificateIdentity("i", "s"))
    assert not key.matches(KeyIdentity(digest_of(b"")))
    assert not key.matches(CertificateIdentity("i", number))
    assert not certificate.matches(KeyIdentity(number))
    assert not certificate.matches(CertificateIdentity("other", "s"))
    assert not certificate.matches(CertificateIdentity("i", "other"))
    assert not Identity().matches(CertificateIdentity("", ""))


def test_the_documented_policy_names_metrics_as_canaries_measure_them() -> None:
    rule = policy().document.rules.canary
    assert rule is not None
    assert set(rule.metrics) <= {one.name for one in CanarySettings().metrics}
