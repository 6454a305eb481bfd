"""`pratique verify-bundle`: one bundle, one artifact, one expected signer, offline. Parse, call, render."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from pratique.core.errors import CallerError
from pratique.release.plain import plain

if TYPE_CHECKING:
    from pratique.release.signing.verifier import BundleVerifier
    from pratique.release.values import Signer

__all__ = ["verify_bundle"]


def verify_bundle(
    artifact: Annotated[str, typer.Argument(metavar="FILE_OR_DIGEST", help="A file, or sha256:… of one.")],
    bundle: Annotated[Path, typer.Option(help="The Sigstore bundle.")],
    certificate_identity: Annotated[str | None, typer.Option(help="The signer's name in the certificate.")] = None,
    certificate_oidc_issuer: Annotated[str | None, typer.Option(help="Who vouched for the signer.")] = None,
    key: Annotated[Path | None, typer.Option(help="The signer's public key, instead of a name.")] = None,
    trusted_root: Annotated[Path | None, typer.Option(help="trusted_root.json. [Sigstore's public instance]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Verify a Sigstore bundle against an artifact and its expected signer, offline.

    The artifact was signed itself, or is the subject of the in-toto statement in the bundle.
    """
    from pratique.release.signing.artifact import load_artifact
    from pratique.release.signing.artifact import verify_bundle as verify
    from pratique.release.signing.bundle import load_bundle

    verifier, expected = _expected(certificate_identity, certificate_oidc_issuer, key, trusted_root)
    verified = verify(load_bundle(bundle), load_artifact(artifact), verifier=verifier, expected=expected)
    at = verified.signed_at.isoformat() if verified.signed_at else None
    if as_json:
        print(msgspec.json.encode({"schema_version": 1, "signer": str(verified.signer), "signed_at": at}).decode())
        return
    print(plain(f"verified: signed by {verified.signer}{f', at the latest {at}' if at else ''}"))


def _expected(
    identity: str | None, issuer: str | None, key: Path | None, trusted_root: Path | None
) -> tuple[BundleVerifier, Signer]:
    from pratique.release.signing.keys import load_public_key
    from pratique.release.signing.trust import load_trust_root
    from pratique.release.signing.verifier import BundleVerifier
    from pratique.release.values import CertificateIdentity, KeyIdentity

    if key is not None and identity is None and issuer is None:
        public = load_public_key(key)
        return BundleVerifier((public,), load_trust_root(trusted_root)), KeyIdentity(public.fingerprint)
    if key is None and identity and issuer:
        return BundleVerifier(root=load_trust_root(trusted_root)), CertificateIdentity(issuer, identity)
    raise CallerError(
        "expected --certificate-identity and --certificate-oidc-issuer, or --key",
        hint="Whose signature it must be has to be said: a bundle that anybody signed proves nothing.",
    )
