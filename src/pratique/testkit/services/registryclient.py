"""A small client of an OCI registry (distribution specification 1.1): what tests push, read, list and delete.

Blobs go in one request. No login, no chunked uploads, no mounting: tests of those bring the client that they test.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urljoin

import msgspec

from pratique.testkit.errors import UnexpectedAnswerError
from pratique.testkit.services.http import Answered, answering, ask

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["MANIFEST", "Manifest", "Pushed", "RegistryClient", "next_page"]

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_MANIFESTS: Final = (
    MANIFEST,
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_PAGE: Final = 100
_PAGES: Final = 10_000
"""More is a server that leads in circles."""


class Pushed(msgspec.Struct, frozen=True, kw_only=True):
    """What a manifest says of a blob, or an index of a manifest: a descriptor."""

    media_type: str = msgspec.field(name="mediaType")
    digest: str
    size: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest as the registry gave it."""

    digest: str
    media_type: str
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 - its own kind
        return msgspec.json.decode(self.body)


class RegistryClient:
    """One registry. `repository` is a full name, `reference` a tag or a digest.

    Every method raises UnexpectedAnswerError where the registry refuses, ServiceGoneError where it does not answer.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def ping(self) -> str:
        """Return what the registry says it speaks."""
        answer = self._ask("GET", "/v2/").expect(200)
        return answer.headers.get("docker-distribution-api-version", "unknown version")

    def push_blob(self, repository: str, content: bytes, *, media_type: str = "application/octet-stream") -> Pushed:
        """Push a blob."""
        pushed = Pushed(media_type=media_type, digest=_digest(content), size=len(content))
        begun = self._ask("POST", f"/v2/{repository}/blobs/uploads/").expect(202)
        if "location" not in begun.headers:
            raise UnexpectedAnswerError(f"{begun.asked}: expected a Location to upload to, got none.", begun.status)
        upload = urljoin(self._url, begun.headers["location"])
        upload += f"{'&' if '?' in upload else '?'}digest={quote(pushed.digest)}"
        self._ask("PUT", upload, body=content, headers={"Content-Type": "application/octet-stream"}).expect(201)
        return pushed

    def blob(self, repository: str, digest: str) -> bytes:
        """Return a blob's content."""
        return self._ask("GET", f"/v2/{repository}/blobs/{digest}").expect(200).body

    def push_manifest(
        self,
        repository: str,
        reference: str,
        body: bytes,
        *,
        media_type: str = MANIFEST,
        headers: Mapping[str, str] | None = None,
    ) -> Pushed:
        """Push a manifest under a tag, or under its own digest."""
        sent = {"Content-Type": media_type, **(headers or {})}
        self._ask("PUT", f"/v2/{repository}/manifests/{reference}", body=body, headers=sent).expect(201)
        return Pushed(media_type=media_type, digest=_digest(body), size=len(body))

    def push_image(self, repository: str, tag: str, *, layers: Sequence[bytes] = (b"",)) -> Pushed:
        """Push an OCI image of these layers."""
        files = {"type": "layers", "diff_ids": [_digest(layer) for layer in layers]}
        about = {"architecture": "amd64", "os": "linux", "rootfs": files}
        config = self.push_blob(repository, msgspec.json.encode(about), media_type=_CONFIG)
        pushed = [self.push_blob(repository, layer, media_type=_LAYER) for layer in layers]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": pushed}
        return self.push_manifest(repository, tag, msgspec.json.encode(manifest))

    def manifest(self, repository: str, reference: str) -> Manifest:
        """Return a manifest."""
        answer = self._manifest("GET", repository, reference).expect(200)
        return Manifest(
            digest=_digest(answer.body), media_type=answer.headers.get("content-type", ""), body=answer.body
        )

    def digest(self, repository: str, reference: str) -> str | None:
        """Return where a tag leads, None where there is no such tag."""
        answer = self._manifest("HEAD", repository, reference).expect(200, 404)
        return None if answer.status == 404 else answer.headers.get("docker-content-digest")  # noqa: PLR2004 - HTTP's

    def delete_manifest(self, repository: str, digest: str) -> None:
        """Delete a manifest, with the tags that lead to it. It does no harm to do so twice."""
        self._ask("DELETE", f"/v2/{repository}/manifests/{digest}").expect(202, 404)

    def tags(self, repository: str) -> list[str]:
        """Return a repository's tags; none where there is no such repository."""
        return self._list(f"/v2/{repository}/tags/list", "tags")

    def repositories(self) -> list[str]:
        """Return every repository, those without a manifest included."""
        return self._list("/v2/_catalog", "repositories")

    def _list(self, path: str, what: str) -> list[str]:
        found: list[str] = []
        path = f"{path}?n={_PAGE}"
        for _ in range(_PAGES):
            answer = self._ask("GET", path).expect(200, 404)
            if answer.status == 404:  # noqa: PLR2004 - HTTP's
                break
            found += answer.json().get(what) or []
            following = next_page(answer.headers.get("link", ""))
            if not following:
                break
            path = urljoin(path, following)
        return found

    def _manifest(self, method: str, repository: str, reference: str) -> Answered:
        return self._ask(method, f"/v2/{repository}/manifests/{reference}", headers={"Accept": ", ".join(_MANIFESTS)})

    def _ask(
        self, method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answered:
        with answering("The registry", self._url):
            return ask(method, path if "://" in path else self._url + path, body=body, headers=headers)


def next_page(link: str) -> str:
    """Return where a Link header says that the list goes on, "" where it ends."""
    address, _, relation = link.partition(";")
    return address.strip().strip("<>") if 'rel="next"' in relation.replace("rel=next", 'rel="next"') else ""


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
