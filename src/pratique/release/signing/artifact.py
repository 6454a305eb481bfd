"""A bundle against one artifact and one expected signer: the question that `sigstore-conformance` asks of clients.

A bundle may hold a signature over the artifact itself, or a statement that has the artifact as its subject.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

from pratique.core.errors import CallerError
from pratique.release.errors import VerificationError
from pratique.release.signing.bundle import parse_bundle
from pratique.release.signing.dsse import Envelope
from pratique.release.signing.verifier import BundleVerifier, Message, Verified
from pratique.release.values import Signer

__all__ = ["load_artifact", "verify_bundle"]

_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
_MAX_WHOLE_BYTES: Final = 64 * 1024 * 1024
"""A larger artifact is known by its digest alone, which is enough for most kinds of keys."""


def load_artifact(name: str) -> Message:
    """Return the artifact that a name means: a digest that is no file, or a file.

    Raises:
        CallerError: the file cannot be read.
    """
    file = Path(name)
    match = _DIGEST.fullmatch(name)
    if match and not file.exists():
        return Message(bytes.fromhex(match[1]))
    try:
        with file.open("rb") as opened:
            if file.stat().st_size <= _MAX_WHOLE_BYTES:
                return Message.of(opened.read())
            return Message(hashlib.file_digest(opened, "sha256").digest())
    except OSError as error:
        raise CallerError(f"the artifact '{name}' cannot be read: {error.strerror}") from error


def verify_bundle(content: bytes, artifact: Message, *, verifier: BundleVerifier, expected: Signer) -> Verified:
    """Make sure that a bundle is about an artifact, and of the signer who is expected.

    Raises:
        VerificationError: it is not; the message says at which step.
    """
    bundle = parse_bundle(content)
    if isinstance(bundle.content, Envelope):
        proved = verifier.verify_statement(bundle, bundle.content, source=content)
        if f"sha256:{artifact.sha256.hex()}" not in proved.statement.subjects:
            raise VerificationError("the statement is about another artifact")
        verified = Verified(proved.signer, proved.signed_at)
    else:
        verified = verifier.verify_artifact(bundle, artifact)
    if verified.signer != expected:
        raise VerificationError(f"expected the signer {expected}, got {verified.signer}")
    return verified
