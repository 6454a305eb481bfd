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

import contextlib
import datetime as dt
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from pratique.core.errors import RefusedError
from pratique.release.errors import ConflictError, EvidenceError, NotFoundError, UnavailableError, VerificationError
from pratique.release.registry.interface import IMAGE_INDEX, IMAGE_MANIFEST, Manifest, Registry
from pratique.release.registry.manifests import referrer_descriptor
from pratique.release.registry.names import fallback_tag
from pratique.release.signing.bundle import parse_bundle
from pratique.release.signing.dsse import Envelope
from pratique.release.signing.layout import (
    EMPTY_BLOB,
    is_own_tag,
    make_index,
    make_referrer,
    own_tag,
    parse_index,
)
from pratique.release.statements import parse_statement
from pratique.release.values import Digest, Subject, digest_of

__all__ = ["Attached", "attach", "back_off", "repair_index"]

_MAX_ROUNDS: Final = 64
"""Each round but the last found that somebody else wrote in between; they all end when nobody attaches any more."""
_MAX_PUTS: Final = 6
_MAX_UNREAD: Final = 6
"""How often the registry may fail to say what a tag names before it counts as unavailable."""
_MAX_PAUSE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Attached:
    """Where a bundle lies."""

    manifest: Digest
    bundle: Digest


def back_off(num_rounds: int) -> None:
    """Wait a moment that grows with the rounds and differs from writer to writer, so that one gets through."""
    time.sleep(random.uniform(0, min(_MAX_PAUSE_SECONDS, 0.01 * 2**num_rounds)))  # noqa: S311 - jitter


def attach(
    registry: Registry,
    subject: Subject,
    bundle: bytes,
    *,
    at: dt.datetime,
    pause: Callable[[int], None] = back_off,
) -> Attached:
    """Lay a bundle beside an artifact. Doing so again with the same arguments changes nothing.

    Args:
        registry: where the artifact lies.
        subject: the artifact.
        bundle: a signed statement about it. That the signature holds is not looked at.
        at: when this is done, for people.
        pause: called before something is tried again because others write too, with the number of tries so far.

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
    digest = digest_of(content)
    _put(registry, subject, digest, content, pause=pause)
    listed = registry.referrers(subject.repository, subject.digest)
    if listed is None:
        _put(registry, subject, own_tag(subject.digest, digest), content, pause=pause)
        repair_index(registry, subject, pause=pause)
    elif digest not in parse_index(listed):
        raise UnavailableError(
            f"the registry took {digest} for {subject.repository}@{subject.digest}, and does not list it as a referrer",
            hint="Attach it again; a registry that lists referrers must list what it took.",
        )
    return Attached(digest, blob.digest)


def _put(registry: Registry, subject: Subject, reference: str, content: bytes, *, pause: Callable[[int], None]) -> None:
    """Write a manifest, again if need be: it can be refused for a moment.

    Debian's registry writes links to blobs in place. While one writer links the empty blob, which all manifests have in
    common, it takes the manifest of another for one whose blobs are missing.
    """
    for attempt in range(1, _MAX_PUTS):
        with contextlib.suppress(RefusedError):
            registry.put_manifest(subject.repository, reference, content, IMAGE_MANIFEST)
            return
        pause(attempt)
    registry.put_manifest(subject.repository, reference, content, IMAGE_MANIFEST)  # the last refusal counts


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


def repair_index(registry: Registry, subject: Subject, *, pause: Callable[[int], None] = back_off) -> None:
    """Make the index that other tools read hold all that our tags name. Where it does, nothing is written.

    Raises:
        ConflictError: the index's tag names something that is no index, or so many write at once that it never held.
        UnavailableError, RefusedError: the registry could not be asked, or said no.
    """
    num_unread = 0
    for num_rounds in range(_MAX_ROUNDS):
        if num_rounds:
            pause(num_rounds)
        try:
            look = _look(registry, subject)
        except UnavailableError:
            # Tags are written in place as well: whoever reads one in that moment is told of an internal error.
            num_unread += 1
            if num_unread == _MAX_UNREAD:
                raise
            continue
        if not look.missing:
            return
        _write(registry, subject, make_index(look.listed | look.missing), look.index)
    raise ConflictError(
        f"the index {subject.repository}:{fallback_tag(subject.digest)} did not hold in {_MAX_ROUNDS} rounds,"
        " others write to it all the time",
        hint="The attestations are there and are read here; the index is repaired by whoever attaches next.",
    )


@dataclass(frozen=True, slots=True)
class _Look:
    index: Manifest | None
    listed: dict[Digest, bytes]
    missing: dict[Digest, bytes]
    """Tagged and not listed."""


def _look(registry: Registry, subject: Subject) -> _Look:
    # The tags are read before the index: an index read first could lack what was tagged in between, and pass.
    own = [name for name in registry.tags(subject.repository) if is_own_tag(name, subject.digest)]
    index = _manifest(registry, subject.repository, fallback_tag(subject.digest))
    listed = _entries(index, subject)
    known = {own_tag(subject.digest, digest) for digest in listed}
    found = [_manifest(registry, subject.repository, name) for name in own if name not in known]
    missing = {one.digest: _entry(one) for one in found if one is not None and one.digest not in listed}
    return _Look(index, listed, missing)


def _entry(manifest: Manifest) -> bytes:
    return msgspec.json.encode(referrer_descriptor(manifest.content, manifest.media_type))


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
