"""Laying bundles beside an artifact, so that of any number at the same time none is lost.

Where the registry lists referrers itself, writing the manifest is all. Where it does not (`layout`):
1. The manifest is written under its digest, then under a tag that only this content can have. From now on it is found:
   readers list these tags. A writer that dies later has lost nothing.
2. The index that other tools read is made to hold what the tags name: tags and index are read, and while something is
   missing, the union is written and both are read again. So the last write of all was followed by a look that found
   nothing missing, and whoever tagged after that look has looked later: when all have returned, the index is whole. If
   the last writer died before its second look, the next reader or writer repairs the index. Where the registry has
   conditional writes, a write on top of a stale look fails and is done again.

What other tools write to the index on a registry without conditional writes can still be lost by their own doing.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from pratique.release.errors import ConflictError, EvidenceError, NotFoundError, UnavailableError, VerificationError
from pratique.release.registry.interface import IMAGE_INDEX, IMAGE_MANIFEST, Manifest, Registry
from pratique.release.signing.bundle import parse_bundle
from pratique.release.signing.dsse import Envelope
from pratique.release.signing.layout import (
    EMPTY_BLOB,
    entry_of,
    fallback_tag,
    is_own_tag,
    make_index,
    make_referrer,
    own_tag,
    parse_index,
)
from pratique.release.statements import parse_statement
from pratique.release.values import Digest, Subject, digest_of

__all__ = ["Attached", "attach", "repair_index"]

_MAX_ROUNDS: Final = 64
"""Each round but the last found that somebody else wrote in between; they all end when nobody attaches any more."""


@dataclass(frozen=True, slots=True)
class Attached:
    """Where a bundle lies."""

    manifest: Digest
    bundle: Digest


def attach(registry: Registry, subject: Subject, bundle: bytes, *, at: dt.datetime) -> Attached:
    """Lay a bundle beside an artifact. Doing so again with the same arguments changes nothing.

    Args:
        registry: where the artifact lies.
        subject: the artifact.
        bundle: a signed statement about it. That the signature holds is not looked at.
        at: when this is done, for people.

    Raises:
        EvidenceError: the bundle holds no statement about this artifact.
        NotFoundError: there is no such artifact.
        UnavailableError, RefusedError: the registry could not be asked, or said no. Nothing, or all but the index for
            other tools, was written; it is safe to do it again.
    """
    predicate_type = _predicate_type(bundle, subject)
    artifact = registry.manifest(subject.repository, subject.digest)
    registry.put_blob(subject.repository, EMPTY_BLOB)
    blob = registry.put_blob(subject.repository, bundle)
    content = make_referrer(artifact, blob, predicate_type=predicate_type, at=at)
    digest = registry.put_manifest(subject.repository, digest_of(content), content, IMAGE_MANIFEST)
    listed = registry.referrers(subject.repository, subject.digest)
    if listed is None:
        registry.put_manifest(subject.repository, own_tag(subject.digest, digest), content, IMAGE_MANIFEST)
        repair_index(registry, subject)
    elif digest not in parse_index(listed):
        raise UnavailableError(
            f"the registry took {digest} for {subject.repository}@{subject.digest}, and does not list it as a referrer",
            hint="Attach it again; a registry that lists referrers must list what it took.",
        )
    return Attached(digest, blob.digest)


def _predicate_type(bundle: bytes, subject: Subject) -> str:
    try:
        content = parse_bundle(bundle).content
    except VerificationError as error:
        raise EvidenceError(f"what is to be attached is no bundle: {error.message}") from error
    if not isinstance(content, Envelope):
        raise EvidenceError("expected a bundle over a statement, got a signature over an artifact")
    statement = parse_statement(content.payload)
    if subject.digest not in statement.subjects:
        raise EvidenceError(
            f"expected a statement about {subject.digest}, got one about {', '.join(statement.subjects[:3])}"
        )
    return statement.predicate_type


def repair_index(registry: Registry, subject: Subject) -> None:
    """Make the index that other tools read hold all that our tags name. Where it does, nothing is written.

    Raises:
        ConflictError: the index's tag names something that is no index, or so many write at once that it never held.
        UnavailableError, RefusedError: the registry could not be asked, or said no.
    """
    repository, tag = subject.repository, fallback_tag(subject.digest)
    for _ in range(_MAX_ROUNDS):
        # The tags are read before the index: an index read first could lack what was tagged in between, and pass.
        own = [name for name in registry.tags(repository) if is_own_tag(name, subject.digest)]
        before = _manifest(registry, repository, tag)
        entries = _entries(before, subject)
        known = {own_tag(subject.digest, digest) for digest in entries}
        missing = [_manifest(registry, repository, name) for name in own if name not in known]
        added = {one.digest: entry_of(one) for one in missing if one is not None}
        if added.keys() <= entries.keys():
            return
        _write(registry, subject, make_index(entries | added), before)
    raise ConflictError(
        f"the index {repository}:{tag} did not hold in {_MAX_ROUNDS} rounds, others write to it all the time",
        hint="The attestations are there and are read here; the index is repaired by whoever attaches next.",
    )


def _write(registry: Registry, subject: Subject, content: bytes, before: Manifest | None) -> None:
    repository, tag = subject.repository, fallback_tag(subject.digest)
    if not registry.has_conditional_writes(repository):
        registry.put_manifest(repository, tag, content, IMAGE_INDEX)
        return
    try:
        if before is None:
            registry.put_manifest(repository, tag, content, IMAGE_INDEX, only_if_absent=True)
        else:
            registry.put_manifest(repository, tag, content, IMAGE_INDEX, only_if=before.digest)
    except ConflictError:
        return  # somebody was quicker: the next round looks again


def _entries(index: Manifest | None, subject: Subject) -> dict[Digest, bytes]:
    if index is None:
        return {}
    try:
        return parse_index(index)
    except VerificationError as error:
        raise ConflictError(
            f"the tag {subject.repository}:{fallback_tag(subject.digest)} is taken: {error.message}",
            hint="It is reserved for the index of what refers to the image: remove what is there.",
        ) from error


def _manifest(registry: Registry, repository: str, reference: str) -> Manifest | None:
    try:
        return registry.manifest(repository, reference)
    except NotFoundError:
        return None
