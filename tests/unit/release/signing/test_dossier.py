"""What lies beside an artifact and must not count, and what must, wherever it lies."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.unit.release.signing.watched_registry import REPOSITORY, WatchedRegistry

from pratique.release.errors import EvidenceError, UnavailableError
from pratique.release.predicates import RELEASE, SBOM
from pratique.release.registry.interface import IMAGE_INDEX, IMAGE_MANIFEST
from pratique.release.registry.names import fallback_tag
from pratique.release.signing import dossier as dossiers
from pratique.release.signing.attach import attach
from pratique.release.signing.bundle import BUNDLE_V03
from pratique.release.signing.dossier import load_dossier
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.signing.keys import FileKey
from pratique.release.signing.layout import make_index, make_referrer, parse_referrer
from pratique.release.signing.publickey import parse_public_key
from pratique.release.signing.scripted import ScriptedInstance
from pratique.release.signing.trust import parse_trust_root
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.statements import make_statement
from pratique.release.values import CertificateIdentity, Digest, KeyIdentity, Subject, digest_of

pytestmark = pytest.mark.unit

AT = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
IMAGE = b'{"schemaVersion":2}'
SUBJECT = Subject(REPOSITORY, digest_of(IMAGE))
STATEMENT = make_statement(SUBJECT.digest, SBOM, {})
OTHER = make_statement(digest_of(b"other"), SBOM, {})
ALICE = CertificateIdentity("https://login.example", "alice@example.com")
INSTANCE = ScriptedInstance(rekor=1)
ROOT = parse_trust_root(INSTANCE.trust_root_json())


@pytest.fixture(params=[False, True], ids=["plain", "referrers"])
def registry(request: pytest.FixtureRequest) -> WatchedRegistry:
    made = WatchedRegistry(has_referrers=request.param)
    made.push_image(IMAGE)
    return made


@pytest.fixture
def checks(file_key: FileKey) -> BundleVerifier:
    return BundleVerifier((parse_public_key(file_key.public_key_der),), ROOT)


@pytest.fixture
def bundle(file_key: FileKey) -> bytes:
    return KeyedSigner(file_key).sign(STATEMENT.payload)


def lay(registry: WatchedRegistry, content: bytes) -> Digest:
    """Lay a manifest beside the image, as somebody does who need not keep to any form."""
    digest = registry.plant(digest_of(content), content)
    entry = msgspec.json.encode({"mediaType": IMAGE_MANIFEST, "digest": digest, "size": len(content)})
    registry.plant(fallback_tag(SUBJECT.digest), make_index({digest: entry}), IMAGE_INDEX)
    return digest


def referrer(registry: WatchedRegistry, bundle: bytes, **changes: Any) -> bytes:
    image = registry.manifests[SUBJECT.digest]
    made = make_referrer(image, registry.put_blob(REPOSITORY, bundle), predicate_type=SBOM, at=AT)
    return msgspec.json.encode(msgspec.json.decode(made) | changes)


def test_what_a_key_and_an_identity_say_is_found(
    registry: WatchedRegistry, checks: BundleVerifier, bundle: bytes, file_key: FileKey
) -> None:
    keyless = msgspec.json.encode(INSTANCE.sign(make_statement(SUBJECT.digest, RELEASE, {}).payload, ALICE, at=AT))
    for one in (bundle, keyless):
        attach(registry, SUBJECT, one, at=AT)
    dossier = load_dossier(registry, SUBJECT, checks)
    key = KeyIdentity(digest_of(file_key.public_key_der))
    assert {(one.signer, one.statement.predicate_type) for one in dossier.attestations} == {
        (key, SBOM),
        (ALICE, RELEASE),
    }
    assert {one.bundle for one in dossier.attestations} == {digest_of(bundle), digest_of(keyless)}
    assert dossier.unverified == ()
    assert dossier.subject == SUBJECT


def test_beside_an_artifact_that_nobody_spoke_of_lies_nothing(
    registry: WatchedRegistry, checks: BundleVerifier
) -> None:
    dossier = load_dossier(registry, SUBJECT, checks)
    assert (dossier.attestations, dossier.unverified) == ((), ())


def reasons(registry: WatchedRegistry, checks: BundleVerifier) -> list[tuple[str, str, str]]:
    dossier = load_dossier(registry, SUBJECT, checks)
    assert dossier.attestations == ()
    return [(one.where, one.reason, one.predicate_type) for one in dossier.unverified]


def test_a_bundle_about_another_artifact_proves_nothing_here(
    registry: WatchedRegistry, checks: BundleVerifier, file_key: FileKey
) -> None:
    digest = lay(registry, referrer(registry, KeyedSigner(file_key).sign(OTHER.payload)))
    ((where, reason, predicate_type),) = reasons(registry, checks)
    assert (where, predicate_type) == (digest, SBOM)
    assert f"about another artifact: {digest_of(b'other')}" in reason


def test_a_strangers_bundle_proves_nothing(registry: WatchedRegistry, bundle: bytes) -> None:
    attach(registry, SUBJECT, bundle, at=AT)
    ((_, reason, predicate_type),) = reasons(registry, BundleVerifier(root=ROOT))
    assert "none of the 0 accepted keys" in reason
    assert predicate_type == SBOM


@pytest.mark.parametrize(
    "spoil",
    [
        lambda bundle: bundle[:-1],
        lambda bundle: bundle + b" ",
        lambda bundle: b"",
        lambda bundle: None,
    ],
    ids=["truncated", "longer", "empty", "gone"],
)
def test_a_blob_that_is_not_what_it_was_proves_nothing(
    registry: WatchedRegistry, checks: BundleVerifier, bundle: bytes, spoil: Callable[[bytes], bytes | None]
) -> None:
    attached = attach(registry, SUBJECT, bundle, at=AT)
    spoiled = spoil(bundle)
    if spoiled is None:
        del registry.blobs[attached.bundle]
    else:
        registry.blobs[attached.bundle] = spoiled
    ((where, _, predicate_type),) = reasons(registry, checks)
    assert (where, predicate_type) == (attached.manifest, SBOM)


def test_a_manifest_that_refers_to_another_artifact_proves_nothing_even_if_the_bundle_would(
    checks: BundleVerifier, bundle: bytes
) -> None:
    registry = WatchedRegistry()
    registry.push_image(IMAGE)
    for subject in ({"digest": digest_of(b"other"), "mediaType": IMAGE_MANIFEST, "size": 3}, None):
        lay(registry, referrer(registry, bundle, subject=subject))
        ((_, reason, _),) = reasons(registry, checks)
        assert "refers to another artifact" in reason


@pytest.mark.parametrize("size", [-1, 10**12])
def test_a_blob_that_claims_an_impossible_size_is_not_fetched(
    registry: WatchedRegistry, checks: BundleVerifier, bundle: bytes, size: int
) -> None:
    layer = {"mediaType": BUNDLE_V03, "digest": digest_of(bundle), "size": size}
    lay(registry, referrer(registry, bundle, layers=[layer]))
    ((_, reason, _),) = reasons(registry, checks)
    assert "it is said to have" in reason


def test_what_other_tools_attached_is_passed_over(
    registry: WatchedRegistry, checks: BundleVerifier, bundle: bytes
) -> None:
    layer = {"mediaType": BUNDLE_V03, "digest": digest_of(bundle), "size": len(bundle)}
    lay(registry, referrer(registry, bundle, layers=[layer | {"mediaType": "application/jose+json"}]))
    assert reasons(registry, checks) == []
    lay(registry, referrer(registry, bundle, layers=[layer, layer]))
    assert reasons(registry, checks) == []


@pytest.mark.parametrize(
    ("media_type", "is_read"),
    [
        ("application/vnd.dev.sigstore.bundle+json;version=0.3", True),
        ("application/vnd.dev.sigstore.bundle.v0.3+json", True),
        ("application/vnd.dev.sigstore.bundle.v0.12+json", True),
        ("application/vnd.dev.sigstore.bundle.v0.1+json", False),
        ("application/vnd.dev.sigstore.bundle+json;version=0.2", False),
        ("text/plain", False),
    ],
)
def test_bundles_are_known_by_the_type_of_their_layer(media_type: str, *, is_read: bool) -> None:
    layer = {"mediaType": media_type, "digest": digest_of(b""), "size": 0}
    read = parse_referrer(msgspec.json.encode({"layers": [layer]}))
    assert (read is not None) is is_read


def test_manifests_that_are_listed_and_cannot_be_read_are_said(checks: BundleVerifier, bundle: bytes) -> None:
    registry = WatchedRegistry()
    registry.push_image(IMAGE)
    bad_layer = {"mediaType": BUNDLE_V03, "digest": "sha256:short", "size": 3}
    for content in (b"[]", referrer(registry, bundle, layers=[bad_layer])):
        lay(registry, content)
        ((_, reason, _),) = reasons(registry, checks)
        assert "expected an image manifest" in reason
    gone = lay(registry, referrer(registry, bundle))
    registry.planted[gone] = registry.manifests[SUBJECT.digest]
    ((_, reason, _),) = reasons(registry, checks)
    assert "sent something else" in reason
    registry.planted[gone] = None
    ((_, reason, _),) = reasons(registry, checks)
    assert "is not there" in reason


@pytest.mark.parametrize("content", [b"{", b"{}", b'{"schemaVersion":2,"manifests":[{"digest":"sha256:0"}]}'])
def test_an_index_that_cannot_be_read_is_said_and_hides_nothing_that_is_found_elsewhere(
    checks: BundleVerifier, bundle: bytes, content: bytes
) -> None:
    registry = WatchedRegistry()
    registry.push_image(IMAGE)
    attach(registry, SUBJECT, bundle, at=AT)
    registry.plant(fallback_tag(SUBJECT.digest), content, IMAGE_INDEX)
    dossier = load_dossier(registry, SUBJECT, checks)
    assert [one.bundle for one in dossier.attestations] == [digest_of(bundle)]
    assert [one.where for one in dossier.unverified] == [fallback_tag(SUBJECT.digest)]


def test_the_index_counts_even_where_referrers_are_listed(checks: BundleVerifier, bundle: bytes) -> None:
    """Attached before the registry had the API."""
    registry = WatchedRegistry(has_referrers=True)
    registry.push_image(IMAGE)
    lay(registry, referrer(registry, bundle))
    listed = registry.referrers(REPOSITORY, digest_of(b"nobody"))
    registry.referrers = lambda *_: listed  # type: ignore[method-assign]
    assert len(load_dossier(registry, SUBJECT, checks).attestations) == 1


def test_one_bundle_in_two_manifests_counts_once(
    registry: WatchedRegistry, checks: BundleVerifier, bundle: bytes
) -> None:
    for day in (1, 2):
        attach(registry, SUBJECT, bundle, at=AT + dt.timedelta(days=day))
    assert len(load_dossier(registry, SUBJECT, checks).attestations) == 1


def test_so_much_that_it_must_be_an_attack_is_not_read(
    registry: WatchedRegistry, checks: BundleVerifier, bundle: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dossiers, "_MAX_PIECES", 1)
    for day in (1, 2):
        attach(registry, SUBJECT, bundle, at=AT + dt.timedelta(days=day))
    with pytest.raises(EvidenceError, match="2 things lie beside"):
        load_dossier(registry, SUBJECT, checks)


def test_more_bytes_than_are_read_leave_nothing_known(
    registry: WatchedRegistry, checks: BundleVerifier, bundle: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach(registry, SUBJECT, bundle, at=AT)
    monkeypatch.setattr(dossiers, "_MAX_BYTES", len(bundle))
    assert len(load_dossier(registry, SUBJECT, checks).attestations) == 1
    monkeypatch.setattr(dossiers, "_MAX_BYTES", len(bundle) - 1)
    with pytest.raises(EvidenceError, match="bytes lie beside"):
        load_dossier(registry, SUBJECT, checks)


def test_a_registry_that_does_not_answer_is_not_an_empty_one(
    registry: WatchedRegistry, checks: BundleVerifier, bundle: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach(registry, SUBJECT, bundle, at=AT)

    def fail(*_: object, **__: object) -> bytes:
        raise UnavailableError("no answer")

    monkeypatch.setattr(registry, "blob", fail)
    with pytest.raises(UnavailableError):
        load_dossier(registry, SUBJECT, checks)
