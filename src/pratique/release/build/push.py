"""Brings a built image to a registry, byte for byte. A tag that names another image is left alone.

skopeo pushes: it knows the logins of the machine. A registry that keeps tags immutable refuses a second image by
itself; others are asked first, which two pushes at the same moment could slip through.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pratique.release.build.bases import tls_words
from pratique.release.build.buildah import SKOPEO
from pratique.release.build.errors import BuildRequestError
from pratique.release.build.layout import LayoutImage
from pratique.release.build.programs import run
from pratique.release.errors import ConflictError, ToolFailedError, UnavailableError
from pratique.release.values import digest_of

__all__ = ["push_image", "require_repository"]

_REPOSITORY: Final = re.compile(r"[a-zA-Z0-9.-]+(?::[0-9]+)?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)+")
_UNKNOWN: Final = re.compile(r"manifest unknown|name unknown|NAME_UNKNOWN|MANIFEST_UNKNOWN|not found", re.IGNORECASE)


def require_repository(repository: str) -> None:
    """Raise where this is no repository: `host[:port]/path`, without tag.

    Raises:
        BuildRequestError: it is none.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise BuildRequestError(f"expected a repository, host[:port]/path without tag, got '{repository[:200]}'")


def push_image(image: LayoutImage, repository: str, tag: str, *, log: Path, timeout_seconds: float) -> None:
    """Push an image under a tag.

    Raises:
        ConflictError: the tag names another image.
        UnavailableError: the registry did not take it.
    """
    require_repository(repository)
    there = _digest_at(f"docker://{repository}:{tag}", repository, timeout_seconds)
    if there == image.digest:
        return
    if there is not None:
        raise ConflictError(
            f"{repository}:{tag} names {there} already, and this build is {image.digest}: a tag is never moved",
            hint="The same commit gave another image: `pratique build --verify` says what differs.",
        )
    words = ["copy", "--quiet", "--preserve-digests", *tls_words("--dest-tls-verify", repository)]
    try:
        run(
            SKOPEO,
            [*words, f"oci:{image.folder}", f"docker://{repository}:{tag}"],
            timeout_seconds=timeout_seconds,
            log=log,
        )
    except ToolFailedError as error:
        raise UnavailableError(f"{repository} did not take the image: {error.message}") from error


def _digest_at(reference: str, repository: str, timeout_seconds: float) -> str | None:
    words = ["inspect", "--raw", *tls_words("--tls-verify", repository), reference]
    try:
        return digest_of(run(SKOPEO, words, timeout_seconds=timeout_seconds))
    except ToolFailedError as error:
        if _UNKNOWN.search(error.message):
            return None
        raise UnavailableError(f"{repository} could not be asked: {error.message}") from error
