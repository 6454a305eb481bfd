"""Base images, by digest, from a registry or a folder, into layouts that every builder starts from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pratique.core.secrets.local import is_local
from pratique.release.build.buildah import SKOPEO
from pratique.release.build.errors import BuildRequestError
from pratique.release.build.layout import LayoutImage, read_layout
from pratique.release.build.programs import run
from pratique.release.errors import EvidenceError
from pratique.release.values import parse_digest

__all__ = ["fetch_bases", "tls_words"]

_AT: Final = "@"


def fetch_bases(
    references: Sequence[str], layouts: Sequence[Path], *, into: Path, log: Path, timeout_seconds: float
) -> dict[str, LayoutImage]:
    """Return every base, checked: out of the layouts given where one has the digest, else from its registry.

    Raises:
        BuildRequestError: a digest names an index of several platforms, or a layout that is given holds no image.
        ToolFailedError: a registry did not send one.
    """
    try:
        given = {image.digest: image for image in map(read_layout, layouts)}
    except EvidenceError as error:
        raise BuildRequestError(f"a base that was given cannot be used: {error.message}") from error
    found: dict[str, LayoutImage] = {}
    for number, reference in enumerate(references):
        digest = parse_digest(reference.rpartition(_AT)[2])
        found[reference] = given.get(digest) or _fetch(
            reference, into / f"base-{number}", log=log, timeout_seconds=timeout_seconds
        )
    return found


def _fetch(reference: str, folder: Path, *, log: Path, timeout_seconds: float) -> LayoutImage:
    folder.parent.mkdir(parents=True, exist_ok=True)
    name, _, digest = reference.rpartition(_AT)
    plain = name if ":" not in name.rpartition("/")[2] else name.rpartition(":")[0]
    words = ["copy", "--quiet", *tls_words("--src-tls-verify", plain)]
    run(SKOPEO, [*words, f"docker://{plain}@{digest}", f"oci:{folder}"], timeout_seconds=timeout_seconds, log=log)
    image = read_layout(folder)
    if image.digest != digest:
        raise BuildRequestError(
            f"{reference} is an index of several platforms, or an image in another form than OCI's",
            hint=f"Name the image itself: {name}@{image.digest}, after it was copied to a registry as OCI.",
        )
    return image


def tls_words(flag: str, repository: str) -> tuple[str, ...]:
    """Return what allows plain HTTP to a registry on this machine, and to no other."""
    host = repository.partition("/")[0].rsplit(":", 1)[0]
    return (f"{flag}=false",) if is_local(host) else ()
