"""`pratique verify`: what lies beside an artifact, and whether it holds. Parse, call, render."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from pratique.cli._signing import Config, ImageDigest, Json, Repository, open_registry, release_settings, signing_of
from pratique.core.errors import CallerError
from pratique.release.plain import plain

if TYPE_CHECKING:
    from pratique.release.signing.interface import Attestation, Dossier
    from pratique.release.values import Signer

__all__ = ["verify"]


def verify(
    digest: ImageDigest,
    repository: Repository,
    kind: Annotated[
        str, typer.Option("--type", help="What must be said: release (signed at all), sbom, …, or a predicate's URI.")
    ] = "release",
    key: Annotated[
        list[Path] | None, typer.Option(help="A public key that is accepted. May be repeated. [public_keys]")
    ] = None,
    certificate_identity: Annotated[str | None, typer.Option(help="A signer's name that is accepted.")] = None,
    certificate_oidc_issuer: Annotated[str | None, typer.Option(help="Who must have vouched for that signer.")] = None,
    trusted_root: Annotated[Path | None, typer.Option(help="trusted_root.json. [Sigstore's public instance]")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Verify everything beside an artifact, and say whether somebody who is accepted has signed."""
    from pratique.release.errors import VerificationError
    from pratique.release.signing.build import open_verifier
    from pratique.release.signing.dossier import load_dossier
    from pratique.release.signing.predicate import type_named
    from pratique.release.values import CertificateIdentity, KeyIdentity, Subject, parse_digest

    wanted, subject = type_named(kind), Subject(repository, parse_digest(digest))
    if (certificate_identity is None) != (certificate_oidc_issuer is None):
        raise CallerError("expected --certificate-identity and --certificate-oidc-issuer together")
    settings = release_settings(config)
    public_keys, root = tuple(key) if key else None, trusted_root
    verifier = open_verifier(signing_of(settings, public_keys=public_keys, trusted_root_file=root))
    accepted: set[Signer] = {KeyIdentity(one.fingerprint) for one in verifier.keys}
    if certificate_identity and certificate_oidc_issuer:
        accepted.add(CertificateIdentity(certificate_oidc_issuer, certificate_identity))
    if not accepted:
        raise CallerError(
            "expected somebody whose signature is accepted: --key, or --certificate-identity",
            hint="What anybody may have signed proves nothing.",
        )
    dossier = load_dossier(open_registry(settings), subject, verifier)
    _print(dossier, as_json=as_json)
    if not any(one.signer in accepted and one.statement.predicate_type == wanted for one in dossier.attestations):
        raise VerificationError(
            f"nobody who is accepted has signed a statement of type '{wanted}' about {subject.digest}",
            hint="What lies beside the artifact stands above.",
        )


def _print(dossier: Dossier, *, as_json: bool) -> None:
    if as_json:
        attestations = [_told(one) for one in dossier.attestations]
        unverified = [{"where": one.where, "reason": one.reason} for one in dossier.unverified]
        told = {"schema_version": 1, "attestations": attestations, "unverified": unverified}
        print(msgspec.json.encode(told).decode())
        return
    for one in dossier.attestations:
        at = f" at the latest {one.signed_at.isoformat()}" if one.signed_at else ""
        print(plain(f"{one.statement.predicate_type} signed by {one.signer}{at} bundle {one.bundle}"))
    for bad in dossier.unverified:
        print(plain(f"proves nothing: {bad.where}: {bad.reason}"), file=sys.stderr)


def _told(one: Attestation) -> dict[str, Any]:
    return {
        "predicate_type": one.statement.predicate_type,
        "signer": str(one.signer),
        "signed_at": one.signed_at.isoformat() if one.signed_at else None,
        "statement": one.statement.digest,
        "bundle": one.bundle,
    }
