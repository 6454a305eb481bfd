"""Debian's docker-registry: no referrers API, no conditional writes, and 32 writers at once."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pratique.release.registry.client import HttpRegistry
from pratique.release.registry.credentials import AuthFiles
from pratique.release.registry.names import fallback_tag
from pratique.release.registry.settings import RegistrySettings
from pratique.release.signing.attach import attach
from pratique.release.signing.dossier import load_dossier
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.signing.keys import create_key
from pratique.release.signing.layout import own_tag, parse_index
from pratique.release.signing.publickey import parse_public_key
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.statements import make_statement
from pratique.release.values import Subject, parse_digest
from pratique.testkit.services.registry import RegistryNamespace

pytestmark = pytest.mark.integration

NUM_WRITERS = 32
AT = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


@pytest.mark.slow
def test_32_attaches_at_once_lose_none(registry: RegistryNamespace, tmp_path: Path) -> None:
    key = create_key(tmp_path / "signing.key", kind="p256", password=None)
    checks = BundleVerifier((parse_public_key(key.public_key_der),))
    pushed = registry.push_image("app", "v1")
    repository = registry.reference("app").rpartition(":")[0]
    subject = Subject(repository, parse_digest(pushed.digest))
    plain = HttpRegistry(RegistrySettings(), AuthFiles(()))
    statements = [make_statement(subject.digest, f"urn:{number}", {}) for number in range(NUM_WRITERS)]
    bundles = [KeyedSigner(key).sign(one.payload) for one in statements]
    with ThreadPoolExecutor(NUM_WRITERS) as pool:
        attached = list(pool.map(lambda bundle: attach(plain, subject, bundle, at=AT), bundles))
    tags = set(plain.tags(subject.repository))
    assert {own_tag(subject.digest, one.manifest) for one in attached} <= tags
    # The index, which is all that other tools look at, is whole too.
    index = parse_index(plain.manifest(subject.repository, fallback_tag(subject.digest)))
    assert set(index) == {one.manifest for one in attached}
    dossier = load_dossier(plain, subject, checks)
    assert dossier.unverified == ()
    assert {one.statement.payload for one in dossier.attestations} == {one.payload for one in statements}
