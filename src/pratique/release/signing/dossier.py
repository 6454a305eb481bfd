"""Reading all that lies beside an artifact, and verifying every piece of it.

What is looked at is the union of what the registry lists as referrers, the index under the fallback tag, the tags that
`attach` gives single bundles where there is no referrers API, and cosign's older tags: each can lack something, none
can add anything but what verifies. A bundle that does not is listed with the reason; what other tools attached, and is
no bundle, is passed over. A registry that does not answer is no reason to believe that there is nothing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from pratique.core.errors import EnvironmentFaultError, RefusedError
from pratique.release.errors import EvidenceError, NotFoundError, VerificationError
from pratique.release.registry.interface import Blob, Manifest, Registry
from pratique.release.registry.names import fallback_tag
from pratique.release.signing.attach import repair_index
from pratique.release.signing.bundle import MAX_BUNDLE_BYTES
from pratique.release.signing.interface import Attestation, Dossier, Unverified
from pratique.release.signing.layout import Referrer, is_own_tag, own_tag, parse_index, parse_referrer
from pratique.release.signing.legacy import LegacyLayer, legacy_tags, parse_legacy, verify_legacy
from pratique.release.signing.verifier import BundleVerifier
from pratique.release.values import Digest, Subject

__all__ = ["load_dossier"]

_MAX_PIECES: Final = 2000
"""Beside one artifact. More is no evidence but an attack on whoever reads it."""
_MAX_BYTES: Final = 1024**3
"""Of all that, which is in memory at once: whatever verifies, and of a public instance anybody can make what does."""
_THREADS: Final = 8


_Found = Attestation | Unverified


def load_dossier(registry: Registry, subject: Subject, verifier: BundleVerifier) -> Dossier:
    """Return everything that lies beside an artifact, verified or with the reason why not.

    Raises:
        UnavailableError: the registry did not answer: what there is is not known.
        RefusedError: it said no, or so much lies there that it is not read.
    """
    reader = _Reader(registry, subject, verifier, _Budget(subject))
    manifests, found = reader.manifests()
    if len(manifests) > _MAX_PIECES:
        raise EvidenceError(f"{len(manifests)} things lie beside {subject.digest}, at most {_MAX_PIECES} are read")
    with ThreadPoolExecutor(_THREADS) as pool:
        found += (one for piece in pool.map(reader.read, manifests) for one in piece)
        found += (one for piece in pool.map(reader.read_legacy, legacy_tags(subject.digest)) for one in piece)
    attestations = {one.bundle: one for one in found if isinstance(one, Attestation)}
    unverified = {one for one in found if isinstance(one, Unverified)}
    return Dossier(
        subject,
        tuple(attestations[digest] for digest in sorted(attestations)),
        tuple(sorted(unverified, key=lambda one: (one.where, one.reason))),
    )


class _Budget:
    """Bytes that may still be read. Safe to use from several threads."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._left = _MAX_BYTES
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Count what will be read.

        Raises:
            EvidenceError: that is more than is read; nothing is known of an artifact of which not all is.
        """
        with self._lock:
            self._left -= size if 0 <= size <= MAX_BUNDLE_BYTES else 0  # what claims to be larger is not read
            if self._left < 0:
                raise EvidenceError(f"more than {_MAX_BYTES} bytes lie beside {self._subject.digest} as evidence")


@dataclass(frozen=True, slots=True)
class _Reader:
    registry: Registry
    subject: Subject
    verifier: BundleVerifier
    budget: _Budget

    def manifests(self) -> tuple[list[str], list[_Found]]:
        """Return where the manifests are that refer to the artifact, and what stands in the way of knowing."""
        tag = fallback_tag(self.subject.digest)
        listed = self.registry.referrers(self.subject.repository, self.subject.digest)
        found = parse_index(listed) if listed is not None else {}
        problems: list[_Found] = []
        try:
            index = self._manifest(tag)
            found |= parse_index(index) if index is not None else {}
        except RefusedError as error:
            problems.append(Unverified(tag, error.message))
        unlisted = self._unlisted(found) if listed is None else []
        return [*found, *unlisted], problems

    def _unlisted(self, found: Iterable[Digest]) -> list[str]:
        """Return our own tags of manifests that the index has lost, and mend the index if that is allowed."""
        known = {own_tag(self.subject.digest, digest) for digest in found}
        own = (tag for tag in self.registry.tags(self.subject.repository) if is_own_tag(tag, self.subject.digest))
        unlisted = [tag for tag in own if tag not in known]
        if unlisted:
            # Whoever may not write, or cannot now, has still read everything: the next one mends the index.
            with contextlib.suppress(RefusedError, EnvironmentFaultError):
                repair_index(self.registry, self.subject)
        return unlisted

    def read(self, reference: str) -> list[_Found]:
        """Return what a manifest proves: nothing where it holds no bundle."""
        try:
            manifest = self._manifest(reference)
            if manifest is None:
                return [Unverified(reference, "it is listed, and is not there")]
            referrer = parse_referrer(manifest.content)
        except RefusedError as error:  # malformed, another than its digest names, or not for us to read
            return [Unverified(reference, error.message)]
        return [self._read_bundle(manifest.digest, referrer)] if referrer is not None else []

    def _read_bundle(self, where: Digest, referrer: Referrer) -> _Found:
        if referrer.subject != self.subject.digest:
            reason = f"its manifest refers to another artifact: {referrer.subject}"
            return Unverified(where, reason, referrer.predicate_type)
        self.budget.take(referrer.bundle.size_bytes)
        try:
            proved = self.verifier.verify(self._blob(referrer.bundle))
        except RefusedError as error:
            return Unverified(where, error.message, referrer.predicate_type)
        return self._about_this(where, proved)

    def read_legacy(self, tag: str) -> list[_Found]:
        """Return what the layers under one of cosign's older tags prove."""
        try:
            manifest = self._manifest(tag)
            layers = parse_legacy(manifest.content) if manifest is not None else ()
        except RefusedError as error:
            return [Unverified(tag, error.message)]
        if len(layers) > _MAX_PIECES:
            return [Unverified(tag, f"it has {len(layers)} layers, at most {_MAX_PIECES} are read")]
        return [self._read_layer(tag, layer) for layer in layers]

    def _read_layer(self, tag: str, layer: LegacyLayer) -> _Found:
        self.budget.take(layer.size)
        try:
            proved = verify_legacy(layer, self._blob(layer.blob), self.verifier)
        except RefusedError as error:
            return Unverified(tag, error.message, layer.predicate_type)
        return self._about_this(tag, proved)

    def _about_this(self, where: str, proved: Attestation) -> _Found:
        """A statement is about what it says, not about what it lies beside."""
        if self.subject.digest in proved.statement.subjects:
            return proved
        about = ", ".join(proved.statement.subjects[:3])
        return Unverified(where, f"it is about another artifact: {about}", proved.statement.predicate_type)

    def _manifest(self, reference: str) -> Manifest | None:
        try:
            return self.registry.manifest(self.subject.repository, reference)
        except NotFoundError:
            return None

    def _blob(self, blob: Blob) -> bytes:
        if not 0 <= blob.size_bytes <= MAX_BUNDLE_BYTES:
            raise VerificationError(f"expected at most {MAX_BUNDLE_BYTES} bytes, it is said to have {blob.size_bytes}")
        try:
            return self.registry.blob(self.subject.repository, blob.digest, max_bytes=blob.size_bytes)
        except NotFoundError as error:
            raise VerificationError(f"the blob {blob.digest} is not there") from error
