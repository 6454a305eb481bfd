"""What changes manifests: puts, under their condition, and the lists of referrers that they lengthen.

The referrers of a manifest are an index under its fallback tag in the registry itself: the front keeps nothing that
could be lost or disagree, and whoever reads the registry without it finds them too. An index is only written while its
tag is held, after what it lists was written; a put is confirmed once both are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pratique.core.events import get_logger
from pratique.release.registry.errors import ListShrinksError, ManifestError
from pratique.release.registry.front.answers import Refusal, refusal_of
from pratique.release.registry.front.locks import Hold, TagLocks
from pratique.release.registry.front.requests import Place
from pratique.release.registry.front.upstream import Said, Upstream
from pratique.release.registry.interface import IMAGE_INDEX
from pratique.release.registry.manifests import (
    Descriptor,
    add_referrer,
    keep_referrers,
    make_index,
    read_manifest,
    referrer_descriptor,
    referrer_digests,
    require_growing,
    subject_of,
)
from pratique.release.registry.names import fallback_tag, is_fallback_tag
from pratique.release.registry.rules import (
    Condition,
    PreconditionError,
    TagMovedError,
    is_mutable,
    require_writable,
)
from pratique.release.values import Digest, digest_of

__all__ = ["ManifestPut", "Writer"]

_logger = get_logger("registry_front")
_CREATED: Final = 201
_BAD: Final = 400
_GATEWAY: Final = range(502, 505)


@dataclass(frozen=True, slots=True)
class ManifestPut:
    """A manifest that is to be written."""

    place: Place
    content: bytes
    media_type: str
    condition: Condition
    headers: Mapping[str, str]
    """As they are passed on."""


class Writer:
    """Writes manifests to one registry."""

    def __init__(
        self, upstream: Upstream, locks: TagLocks, *, mutable_tags: tuple[str, ...], upstream_seconds: float
    ) -> None:
        self._upstream = upstream
        self._locks = locks
        self._mutable_tags = mutable_tags
        self._seconds = upstream_seconds

    async def put(self, put: ManifestPut) -> Said:
        """Write a manifest and list it among its subject's referrers; returns the registry's answer.

        Raises:
            Refusal: a rule, a condition or the registry is against it.
        """
        try:
            subject = subject_of(read_manifest(put.content, put.media_type))
        except ManifestError as error:
            raise refusal_of(error) from error
        said = await (self._put_tag(put) if put.place.is_tag else self._put_digest(put))
        if subject is None or said.status != _CREATED:
            return said
        await self._list(put, subject, referrer_descriptor(put.content, put.media_type))
        return Said(said.status, [*said.headers, ("OCI-Subject", subject)], said.body, said.media_type)

    async def referrers(self, repository: str, digest: str, headers: Mapping[str, str]) -> bytes:
        """Return the index of what refers to a manifest.

        Raises:
            Refusal: the registry did not answer, or holds something else under that tag.
        """
        tag = fallback_tag(Digest(digest))
        found = await self._upstream.manifest(repository, tag, headers)
        return _index_in(found, tag) or make_index([])

    async def forget(self, repository: str, digest: str, headers: Mapping[str, str]) -> None:
        """Take a manifest off the list of its subject's referrers, before it is deleted."""
        found = await self._upstream.manifest(repository, digest, headers)
        try:
            subject = subject_of(read_manifest(found.body, found.media_type)) if found is not None else None
        except ManifestError:  # what cannot be read was never listed
            return
        if subject is None:
            return
        tag = fallback_tag(subject)
        async with self._locks.hold(repository, tag) as hold:
            index = _index_in(await self._upstream.manifest(repository, tag, headers), tag)
            if index is not None and digest in (listed := referrer_digests(index)):
                kept = keep_referrers(index, [one for one in listed if one != digest])
                await self._write_index(repository, tag, kept, headers, hold)

    async def _put_digest(self, put: ManifestPut) -> Said:
        if put.condition:
            raise Refusal(400, "UNSUPPORTED", "conditions are for tags: a digest always names the same")
        if put.place.reference != digest_of(put.content):
            raise Refusal(400, "DIGEST_INVALID", f"the manifest's digest is {digest_of(put.content)}")
        return await self._send(put)

    async def _put_tag(self, put: ManifestPut) -> Said:
        tag = put.place.reference
        if is_fallback_tag(tag) and put.media_type != IMAGE_INDEX:
            # An image under it would keep all evidence about another one from being listed.
            raise Refusal(409, "DENIED", f"the tag '{tag}' is for the index of what refers to an image")
        async with self._locks.hold(put.place.repository, tag) as hold:
            found = await self._upstream.manifest(put.place.repository, tag, put.headers)
            current = found.digest if found is not None else None
            may_move = is_mutable(tag, self._mutable_tags)
            try:
                require_writable(tag, current, digest_of(put.content), condition=put.condition, may_move=may_move)
                if found is not None and found.media_type == IMAGE_INDEX and is_fallback_tag(tag):
                    require_growing(found.body, put.content, put.media_type)
            except (TagMovedError, PreconditionError, ListShrinksError, ManifestError) as error:
                _logger.info("write_refused", repository=put.place.repository, tag=tag, code=error.code)
                raise refusal_of(error) from error
            hold.require_left(self._seconds)
            hold.is_in_doubt = True
            said = await self._send(put)
            hold.is_in_doubt = said.status in _GATEWAY  # a proxy's answer: the registry's own is not known
            return said

    async def _send(self, put: ManifestPut) -> Said:
        path = f"/v2/{put.place.repository}/manifests/{put.place.reference}"
        kept = {name: value for name, value in put.headers.items() if name not in {"content-length", "if-none-match"}}
        return await self._upstream.ask("PUT", path, kept, put.content)

    async def _list(self, put: ManifestPut, subject: Digest, referrer: Descriptor) -> None:
        repository, tag = put.place.repository, fallback_tag(subject)
        async with self._locks.hold(repository, tag) as hold:
            before = _index_in(await self._upstream.manifest(repository, tag, put.headers), tag)
            try:
                after = add_referrer(before, referrer)
            except ManifestError as error:
                raise refusal_of(error) from error
            if after is not None:
                await self._write_index(repository, tag, after, put.headers, hold)

    async def _write_index(
        self, repository: str, tag: str, index: bytes, headers: Mapping[str, str], hold: Hold
    ) -> None:
        said = await self._put_index(repository, tag, index, headers, hold)
        if said.status == _BAD:  # registries refuse an index of what is not there: somebody deleted it behind the front
            there = [
                one
                for one in referrer_digests(index)
                if await self._upstream.manifest(repository, one, headers) is not None
            ]
            hold.require_left(self._seconds)
            said = await self._put_index(repository, tag, keep_referrers(index, there), headers, hold)
        if said.status != _CREATED:
            raise said.refusal()

    async def _put_index(self, repository: str, tag: str, index: bytes, headers: Mapping[str, str], hold: Hold) -> Said:
        hold.require_left(self._seconds)
        hold.is_in_doubt = True
        said = await self._upstream.put_index(repository, tag, index, headers)
        hold.is_in_doubt = said.status in _GATEWAY
        return said


def _index_in(found: Said | None, tag: str) -> bytes | None:
    if found is None:
        return None
    if found.media_type != IMAGE_INDEX:
        message = f"the tag '{tag}' lists referrers, and names a '{found.media_type}'"
        raise Refusal(502, "MANIFEST_INVALID", message)
    try:
        read_manifest(found.body, IMAGE_INDEX)
    except ManifestError as error:
        raise Refusal(502, "MANIFEST_INVALID", error.message) from error
    return found.body
