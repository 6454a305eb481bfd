"""The registry in memory, watched: steps on tags can be held up, and things lie in it that no registry takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pratique.release.errors import NotFoundError, VerificationError
from pratique.release.registry.interface import IMAGE_MANIFEST, Manifest
from pratique.release.registry.memory import MemoryRegistry
from pratique.release.values import Digest, Subject, digest_of

REPOSITORY = "registry.example/team/app"


class WatchedRegistry(MemoryRegistry):
    """One repository. `step` is called before each read or write of a tag: where other writers may come in between."""

    def __init__(self, *, has_referrers: bool = False, is_conditional: bool = False) -> None:
        super().__init__(has_referrers_api=has_referrers, has_conditional_writes=is_conditional)
        self.step: Callable[[str], None] = lambda _: None
        self.num_writes = 0
        self.planted: dict[str, Manifest | None] = {}

    @property
    def tagged(self) -> dict[str, Digest]:
        return self._made(REPOSITORY).tags

    @property
    def manifests(self) -> dict[Digest, Manifest]:
        return self._made(REPOSITORY).manifests

    @property
    def blobs(self) -> dict[Digest, bytes]:
        return self._made(REPOSITORY).blobs

    def push_image(self, content: bytes = b'{"schemaVersion":2}', tag: str = "latest") -> Subject:
        return Subject(REPOSITORY, self.put_manifest(REPOSITORY, tag, content, IMAGE_MANIFEST))

    def plant(self, reference: str, content: bytes, media_type: str = IMAGE_MANIFEST) -> Digest:
        """Have a tag or a digest name something, whatever it is; below its own digest it lies too."""
        digest = digest_of(content)
        self.planted |= dict.fromkeys((reference, digest), Manifest(content, media_type, digest))
        return digest

    def manifest(self, repository: str, reference: str) -> Manifest:
        if ":" not in reference:
            self.step("read tag")
        if reference not in self.planted:
            return super().manifest(repository, reference)
        found = self.planted[reference]
        if found is None:
            raise NotFoundError(f"there is no {reference}")
        if ":" in reference and found.digest != reference:
            raise VerificationError(f"the registry sent something else than {reference}")
        return found

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
        if ":" not in reference:
            self.step("write tag")
        self.num_writes += 1
        return super().put_manifest(
            repository, reference, content, media_type, only_if=only_if, only_if_absent=only_if_absent
        )

    def blob(self, repository: str, digest: Digest, *, max_bytes: int) -> bytes:
        content = super().blob(repository, digest, max_bytes=max_bytes)
        if digest_of(content) != digest:
            raise VerificationError(f"the registry sent something else than {digest}")
        return content

    def tags(self, repository: str) -> Iterator[str]:
        self.step("list tags")
        return super().tags(repository)
