"""Debian's docker-registry: no referrers API, no conditional writes, and 32 writers at once."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest

from pratique.core.errors import RefusedError
from pratique.release.errors import NotFoundError, UnavailableError
from pratique.release.registry.interface import Blob, Manifest
from pratique.release.signing.attach import attach
from pratique.release.signing.dossier import load_dossier
from pratique.release.signing.keyed import KeyedSigner
from pratique.release.signing.keys import create_key
from pratique.release.signing.layout import fallback_tag, own_tag, parse_index
from pratique.release.signing.publickey import parse_public_key
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.statements import make_statement
from pratique.release.values import Digest, Subject, digest_of, parse_digest
from pratique.testkit.errors import UnexpectedAnswerError
from pratique.testkit.services.registry import RegistryNamespace
from pratique.testkit.services.registryclient import RegistryClient

pytestmark = pytest.mark.integration

NUM_WRITERS = 32
AT = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


@contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except UnexpectedAnswerError as error:
        kind = {404: NotFoundError, 500: UnavailableError}.get(error.status, RefusedError)
        raise kind(str(error)) from error


@dataclass(frozen=True)
class PlainRegistry:
    """The registry's HTTP interface as our rooms see it: just what these tests need of it."""

    client: RegistryClient

    def manifest(self, repository: str, reference: str) -> Manifest:
        with translated():
            found = self.client.manifest(repository, reference)
        return Manifest(found.body, found.media_type, parse_digest(found.digest))

    def put_manifest(
        self,
        repository: str,
        reference: str,
        content: bytes,
        media_type: str,
        *,
        only_if: Digest | None = None,
        only_if_absent: bool = False,
    ) -> Digest:
        assert not only_if
        assert not only_if_absent
        with translated():
            pushed = self.client.push_manifest(repository, reference, content, media_type=media_type)
        return parse_digest(pushed.digest)

    def blob(self, repository: str, digest: Digest, *, max_bytes: int) -> bytes:
        content = self.client.blob(repository, digest)
        assert len(content) <= max_bytes
        return content

    def open_blob(self, repository: str, digest: Digest) -> AbstractContextManager[BinaryIO]:
        return io.BytesIO(self.client.blob(repository, digest))

    def put_blob(self, repository: str, content: bytes | Path) -> Blob:
        assert isinstance(content, bytes)
        blob = Blob(digest_of(content), len(content))
        try:
            self.client.blob(repository, blob.digest)
        except UnexpectedAnswerError:
            self.client.push_blob(repository, content)
        return blob

    def tags(self, repository: str) -> Iterator[str]:
        return iter(self.client.tags(repository))

    def referrers(self, repository: str, digest: Digest) -> Manifest | None:
        return None

    def has_conditional_writes(self, repository: str) -> bool:
        return False


def test_32_attaches_at_once_lose_none(registry: RegistryNamespace, tmp_path: Path) -> None:
    key = create_key(tmp_path / "signing.key", kind="p256", password=None)
    checks = BundleVerifier((parse_public_key(key.public_key_der),))
    pushed = registry.push_image("app", "v1")
    subject = Subject(registry.repository("app"), parse_digest(pushed.digest))
    plain = PlainRegistry(registry.client())
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
