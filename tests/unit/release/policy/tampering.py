"""Tampering: a whole valid set of evidence, really signed, spoiled in one place at a time. Nothing may pass.

Every piece is spoiled in every way that fits it. Where an attacker would need a signer's help, the signer is taken to
have given it: what is signed anew is signed by the right party, and all that refers to it follows, so that the rule in
question is the only thing left that can refuse.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import msgspec
from cryptography import x509
from tests.unit.release.policy.evidence_set import (
    FACTS,
    IMAGE,
    NOW,
    OTHER,
    PARTIES,
    PIECES,
    REPOSITORY,
    SUBJECT,
    Edit,
    Piece,
    make_pieces,
)
from tests.unit.release.policy.spoiled import SPOILED
from tests.unit.release.policy.workshop import AN_HOUR_AGO, Workshop, new_key

from pratique.release.policy.decision import Decision, Facts
from pratique.release.policy.evaluate import evaluate
from pratique.release.signing.scripted import ScriptedInstance
from pratique.release.values import CertificateIdentity, KeyIdentity, Subject


@dataclass
class Attempt:
    """What is put before the gate."""

    bundles: dict[str, bytes]
    facts: Facts = FACTS
    subject: Subject = SUBJECT
    evidence_of: Subject = SUBJECT

    def decision(self, shop: Workshop) -> Decision:
        return evaluate(shop.policy, self.subject, shop.dossier(self.bundles, subject=self.evidence_of), self.facts)


@dataclass(frozen=True)
class Case:
    """A way to spoil it."""

    kind: str
    piece: str
    """Which is spoiled; empty where it is something around."""
    name: str
    spoil: Callable[[Workshop], Attempt]


def whole(shop: Workshop, edits: Mapping[str, Edit] | None = None) -> Attempt:
    return Attempt(shop.bundles(make_pieces(edits)))


# Bytes: what anybody who can write to the registry can do.


def on_bundle(kind: str, piece: str, name: str, change: Callable[[dict[str, Any]], object]) -> Case:
    """Change a bundle's JSON; its signatures stay as they are."""

    def spoil(shop: Workshop) -> Attempt:
        attempt = whole(shop)
        bundle = msgspec.json.decode(attempt.bundles[piece])
        change(bundle)
        attempt.bundles[piece] = msgspec.json.encode(bundle)
        return attempt

    return Case(kind, piece, name, spoil)


def on_bytes(kind: str, piece: str, name: str, change: Callable[[bytes], bytes | None]) -> Case:
    def spoil(shop: Workshop) -> Attempt:
        attempt = whole(shop)
        changed = change(attempt.bundles.pop(piece))
        if changed is not None:
            attempt.bundles[piece] = changed
        return attempt

    return Case(kind, piece, name, spoil)


def truncate(share: float) -> Callable[[bytes], bytes]:
    return lambda bundle: bundle[: int(len(bundle) * share)]


def edit_payload(where: float) -> Callable[[dict[str, Any]], object]:
    def change(bundle: dict[str, Any]) -> None:
        payload = bytearray(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        place = int(where * (len(payload) - 1))
        payload[place] ^= 1
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()

    return change


def swap_payload(text: bytes, other: bytes) -> Callable[[dict[str, Any]], object]:
    def change(bundle: dict[str, Any]) -> None:
        payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
        assert text in payload
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload.replace(text, other)).decode()

    return change


def byte_cases(piece: str) -> Iterator[Case]:
    yield on_bytes("dropped", piece, "dropped", lambda _: None)
    for share in (0.0, 0.3, 0.7, 0.99):
        yield on_bytes("truncated", piece, f"to {share}", truncate(share))
    for where in (0.0, 0.2, 0.5, 0.8, 1.0):
        yield on_bundle("edited payload", piece, f"a bit at {where}", edit_payload(where))
    ours, theirs = (digest.removeprefix("sha256:").encode() for digest in (IMAGE, OTHER))
    yield on_bundle("edited payload", piece, "the digest", swap_payload(ours, theirs))

    def envelope(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
        return lambda bundle: bundle["dsseEnvelope"].__setitem__(name, value)

    yield on_bundle("stripped signature", piece, "no signatures", envelope("signatures", []))
    yield on_bundle("stripped signature", piece, "an empty one", envelope("signatures", [{"sig": ""}]))
    yield on_bundle("stripped signature", piece, "no envelope", lambda bundle: bundle.pop("dsseEnvelope"))
    yield on_bundle("replaced signature", piece, "by bytes", envelope("signatures", [{"sig": "AAAA"}]))
    yield on_bundle("replaced type", piece, "of the payload", envelope("payloadType", "application/json"))
    yield on_bundle("no material", piece, "no material", lambda bundle: bundle.__setitem__("verificationMaterial", {}))


def replaced_signature(piece: str, other: str) -> Case:
    """A true signature, of something else."""

    def spoil(shop: Workshop) -> Attempt:
        attempt = whole(shop)
        bundle, donor = (msgspec.json.decode(attempt.bundles[name]) for name in (piece, other))
        bundle["dsseEnvelope"]["signatures"] = donor["dsseEnvelope"]["signatures"]
        bundle["verificationMaterial"] = donor["verificationMaterial"]
        attempt.bundles[piece] = msgspec.json.encode(bundle)
        return attempt

    return Case("replaced signature", piece, f"by that of {other}", spoil)


# Signers: the same words, by somebody else.


def signed_anew(kind: str, piece: str, name: str, sign: Callable[[Workshop, bytes], bytes]) -> Case:
    def spoil(shop: Workshop) -> Attempt:
        pieces = make_pieces()
        attempt = Attempt(shop.bundles(pieces))
        attempt.bundles[piece] = sign(shop, pieces[piece].payload)
        return attempt

    return Case(kind, piece, name, spoil)


def by_a_wrong_key(shop: Workshop, payload: bytes, *, hint: str | None = None) -> bytes:
    return shop.sign_with(new_key(), payload, hint=hint)


def with_a_stolen_hint(shop: Workshop, payload: bytes) -> bytes:
    hint = msgspec.json.decode(shop.sign(payload, "scanner"))["verificationMaterial"]["publicKey"]["hint"]
    return by_a_wrong_key(shop, payload, hint=hint)


def by_another_authority(identity: CertificateIdentity) -> Callable[[Workshop, bytes], bytes]:
    return lambda _, payload: msgspec.json.encode(ScriptedInstance().sign(payload, identity, at=AN_HOUR_AGO))


def after_the_certificate_ended(identity: CertificateIdentity) -> Callable[[Workshop, bytes], bytes]:
    """The key outlived its certificate, and signed an hour later: the log saw it then."""

    def sign(shop: Workshop, payload: bytes) -> bytes:
        bundle = shop.instance.sign(payload, identity, at=AN_HOUR_AGO - timedelta(hours=1))
        material = bundle["verificationMaterial"]
        certificate = x509.load_der_x509_certificate(base64.b64decode(material["certificate"]["rawBytes"]))
        signature = base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])
        material["tlogEntries"] = [shop.instance.log_envelope(payload, signature, certificate, at=AN_HOUR_AGO)]
        return msgspec.json.encode(bundle)

    return sign


WORKFLOW_OF_A_FORK = CertificateIdentity(
    "https://token.actions.githubusercontent.com",
    "https://github.com/mallory/chat/.github/workflows/release.yml@refs/tags/v1.4.0",
)
WORKFLOW_OF_A_BRANCH = CertificateIdentity(
    "https://token.actions.githubusercontent.com",
    "https://github.com/team/chat/.github/workflows/release.yml@refs/heads/main",
)
SAME_NAME_ELSEWHERE = "https://accounts.mallory.example"
ROLES: dict[str, set[str]] = {
    "scan": {"scanner"},
    "vex": {"ana", "ana-certificate"},
    "review": {"ana", "ana-certificate", "ben", "chi"},
    "evaluation": {"evaluator"},
    "canary": {"rollout"},
    "approval-ben": {"ana", "ana-certificate", "ben"},
    "approval-chi": {"ana", "ana-certificate", "chi"},
}
"""Who may sign what; the rest is the builder's. One who approved already counts once."""


def signer_cases(piece: str) -> Iterator[Case]:
    yield signed_anew("wrong key", piece, "unknown", by_a_wrong_key)
    yield signed_anew("wrong key", piece, "with a known one's hint", with_a_stolen_hint)
    for party in PARTIES:
        if party not in ROLES.get(piece, {"build"}):
            sign = lambda shop, payload, party=party: shop.sign(payload, party)  # noqa: E731 - one of many
            yield signed_anew("wrong party", piece, f"by {party}", sign)
    identity = PARTIES[make_pieces()[piece].party]
    if isinstance(identity, CertificateIdentity):
        yield signed_anew("another authority", piece, "under its certificate", by_another_authority(identity))
        yield signed_anew("expired certificate", piece, "used later", after_the_certificate_ended(identity))
        elsewhere = replace(identity, issuer=SAME_NAME_ELSEWHERE)
        for name, other in (
            ("a fork's", WORKFLOW_OF_A_FORK),
            ("a branch's", WORKFLOW_OF_A_BRANCH),
            ("the same name by another issuer", elsewhere),
        ):
            sign = lambda shop, payload, other=other: msgspec.json.encode(  # noqa: E731 - one of many
                shop.instance.sign(payload, other, at=AN_HOUR_AGO)
            )
            yield signed_anew("wrong identity", piece, name, sign)


# Statements: the right party signs the wrong thing, and all that follows is made from it.


def edited(kind: str, piece: str, name: str, edit: Edit) -> Case:
    return Case(kind, piece, name, lambda shop: whole(shop, {piece: edit}))


def rewritten(kind: str, piece: str, name: str, change: Callable[[bytes], bytes]) -> Case:
    return edited(kind, piece, name, lambda one: replace(one, rewrite=change))


def twice(member: bytes, value: bytes) -> Callable[[bytes], bytes]:
    return lambda payload: b"{" + member + b":" + value + b"," + payload[1:]


def with_subjects(*numbers: str, algorithm: str = "sha256") -> Callable[[bytes], bytes]:
    def change(payload: bytes) -> bytes:
        statement = msgspec.json.decode(payload)
        statement["subject"] = [{"digest": {algorithm: number.removeprefix("sha256:")}} for number in numbers]
        return msgspec.json.encode(statement)

    return change


def statement_cases(piece: str) -> Iterator[Case]:
    own = make_pieces()[piece].predicate_type
    for other in {one.predicate_type for one in make_pieces().values()} - {own} | {"", "urn:other", own + "/"}:
        edit = lambda one, other=other: replace(one, predicate_type=other)  # noqa: E731 - one of many
        yield edited("swapped predicate type", piece, other, edit)
    yield edited("swapped digest", piece, "another image's", lambda one: replace(one, subject=OTHER))
    yield rewritten("extra subject", piece, "after", with_subjects(IMAGE, OTHER))
    yield rewritten("extra subject", piece, "before", with_subjects(OTHER, IMAGE))
    yield rewritten("extra subject", piece, "the same twice", with_subjects(IMAGE, IMAGE))
    yield rewritten("no subject", piece, "none", with_subjects())
    yield rewritten("no subject", piece, "by another algorithm", with_subjects("0" * 128, algorithm="sha512"))
    yield rewritten("no subject", piece, "upper case", with_subjects(IMAGE.removeprefix("sha256:").upper()))
    for member, value in (
        (b'"subject"', b"[]"),
        (b'"predicateType"', b'"urn:other"'),
        (b'"predicate"', b"{}"),
        (b'"_type"', b'"https://in-toto.io/Statement/v1"'),
        (b'"sub\\u006aect"', b"[]"),
    ):
        yield rewritten("duplicated member", piece, member.decode(), twice(member, value))
    yield rewritten("wrong statement", piece, "type", lambda payload: payload.replace(b"Statement/v1", b"Statement/v2"))
    yield rewritten("wrong statement", piece, "no JSON", lambda payload: payload[:-1])
    yield rewritten("wrong statement", piece, "nothing", lambda _: b"")


def spoiled_cases() -> Iterator[Case]:
    for piece, edits in SPOILED.items():
        for name, edit in edits.items():
            yield edited("wrong content", piece, name, edit)


# Revocations, replays and the world around.


def revoked_cases(piece: str) -> Iterator[Case]:
    def revoke(what: str) -> Callable[[Workshop], Attempt]:
        def spoil(shop: Workshop) -> Attempt:
            attempt = whole(shop)
            [found] = shop.dossier({piece: attempt.bundles[piece]}).attestations
            key = found.signer.key if isinstance(found.signer, KeyIdentity) else IMAGE
            digests = {"bundle": found.bundle, "statement": found.statement.digest, "key": key}
            return replace(attempt, facts=replace(FACTS, revoked=frozenset({digests[what]})))

        return spoil

    has_key = not isinstance(PARTIES[make_pieces()[piece].party], CertificateIdentity)
    for what in ("bundle", "statement", *(["key"] if has_key else [])):
        yield Case("revoked", piece, f"its {what}", revoke(what))


@dataclass(frozen=True)
class Around:
    """A changed fact, and what else is changed with it."""

    facts: dict[str, Any] = field(default_factory=dict)
    attempt: dict[str, Any] = field(default_factory=dict)


ELSEWHERE = Subject("registry.example/mallory/chat", IMAGE)
AROUND = {
    "the image is revoked": Around({"revoked": frozenset({IMAGE})}),
    "approvals are for another environment": Around({"environment": "canary"}),
    "an unknown environment": Around({"environment": "prod"}),
    "no environment": Around({"environment": ""}),
    "another image is in production": Around({"in_production": OTHER}),
    "nothing is in production": Around({"in_production": None}),
    "an approver is the author": Around({"authors": frozenset({"ben@team.example"})}),
    "an approver is the author by another address": Around({"authors": frozenset({"BEN@home.example"})}),
    "an approver is the author by the certificate": Around({"authors": frozenset({"chi@team.example"})}),
    "a recorded statement is gone": Around({"recorded": frozenset({OTHER})}),
    "an hour later the canary is fine, a day later it is not": Around({"now": NOW + timedelta(hours=24)}),
    "the scan is old": Around({"now": NOW + timedelta(hours=23)}),
    "the database is old": Around({"now": NOW + timedelta(hours=29)}),
    "the approvals are old": Around({"now": NOW + timedelta(hours=49)}),
    "the exemption is old": Around({"now": NOW + timedelta(days=30)}),
    "it was signed in the future": Around({"now": NOW - timedelta(hours=2)}),
    "another repository is asked for": Around(attempt={"subject": ELSEWHERE}),
    "another repository holds it": Around(attempt={"subject": ELSEWHERE, "evidence_of": ELSEWHERE}),
    "evidence of another repository": Around(attempt={"evidence_of": ELSEWHERE}),
    "another digest is asked for": Around(attempt={"subject": Subject(REPOSITORY, OTHER)}),
    "another digest holds it": Around(
        attempt={"subject": Subject(REPOSITORY, OTHER), "evidence_of": Subject(REPOSITORY, OTHER)}
    ),
}


def around_cases() -> Iterator[Case]:
    for name, change in AROUND.items():

        def spoil(shop: Workshop, change: Around = change) -> Attempt:
            return replace(whole(shop), facts=replace(FACTS, **change.facts), **change.attempt)

        yield Case("around", "", name, spoil)


def added(name: str, *pieces: Piece, without: tuple[str, ...] = ()) -> Case:
    """Statements that lie beside the valid ones, or in the place of some."""

    def spoil(shop: Workshop) -> Attempt:
        attempt = whole(shop)
        for gone in without:
            del attempt.bundles[gone]
        attempt.bundles |= shop.bundles({f"added {number}": piece for number, piece in enumerate(pieces)})
        return attempt

    return Case("added", "", name, spoil)


def added_cases() -> Iterator[Case]:
    pieces = make_pieces()
    ben = pieces["approval-ben"]
    again = replace(ben, predicate={**ben.predicate, "reason": "again"})
    yield added("the same person twice", again, without=("approval-chi",))
    as_ana = replace(ben, party="ana")
    yield added(
        "one person with two identities",
        as_ana,
        replace(as_ana, party="ana-certificate"),
        without=("approval-ben", "approval-chi"),
    )
    glass = replace(ben, predicate={**ben.predicate, "is_break_glass": True, "evidence": []})
    yield added("one person breaks the glass", glass, without=("evaluation",))
    soon = replace(glass, predicate={**glass.predicate, "expires_at": (NOW + timedelta(hours=1)).isoformat()})
    yield added("one person breaks the glass twice", soon, replace(soon, signed_at=NOW), without=("evaluation",))
    both = (soon, replace(soon, party="ana"))
    yield added("two break the glass of an unsigned image", *both, without=("signature",))
    yield added("a builder and a person break the glass", soon, replace(soon, party="build"), without=("evaluation",))
    for piece, edits in SPOILED.items():
        if piece in {"scan", "hygiene", "evaluation", "canary", "provenance", "sbom"}:
            name, edit = next(iter(edits.items()))
            newer = edit(pieces[piece])
            yield added(
                f"a bad {piece} beside the good one: {name}", replace(newer, signed_at=NOW - timedelta(minutes=1))
            )


def revoked_image_with_broken_glass() -> Case:
    def spoil(shop: Workshop) -> Attempt:
        [case] = [one for one in added_cases() if one.name == "two break the glass of an unsigned image"]
        attempt = case.spoil(shop)
        attempt.bundles |= {"signature": whole(shop).bundles["signature"]}
        return replace(attempt, facts=replace(FACTS, revoked=frozenset({IMAGE})))

    return Case("added", "", "two break the glass of a revoked image", spoil)


CASES = [
    *(case for piece in PIECES for case in byte_cases(piece)),
    *(replaced_signature(piece, other) for piece in PIECES for other in PIECES if other != piece),
    *(case for piece in PIECES for case in signer_cases(piece)),
    *(case for piece in PIECES for case in statement_cases(piece)),
    *spoiled_cases(),
    *(case for piece in PIECES for case in revoked_cases(piece)),
    *around_cases(),
    *added_cases(),
    revoked_image_with_broken_glass(),
]
