"""What the commands about released models have in common: from the settings of one part to the values of the other."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pratique.core.errors import CallerError

if TYPE_CHECKING:
    from pratique.inference.artifacts.manifest import Manifest
    from pratique.inference.settings import ArtifactSettings, SignerSettings
    from pratique.release.models.admitting import Admission
    from pratique.release.models.artifact import ModelArtifact
    from pratique.release.policy.document import Identity
    from pratique.release.signing.publickey import PublicKey
    from pratique.release.values import Digest

__all__ = ["artifact_of", "open_admission"]


def open_admission(settings: ArtifactSettings) -> Admission:
    """Return who says which models were released, as the settings of the model server name them. Reads keys and roots.

    Raises:
        CallerError: a key cannot be read, or nobody is named.
    """
    from pratique.core.clock import SystemClock
    from pratique.release.models.admission import Trust
    from pratique.release.models.admitting import Admission
    from pratique.release.signing.trust import load_trust_root
    from pratique.release.signing.verifier import BundleVerifier
    from pratique.release.values import parse_digest

    keys: list[PublicKey] = []
    hours = settings.max_decision_age_hours
    trust = Trust(
        signers=_identities(settings.signers, keys),
        environment=settings.environment,
        deciders=_identities(settings.deciders, keys),
        policy=None if settings.policy_digest is None else parse_digest(settings.policy_digest),
        max_decision_age=None if hours is None else timedelta(hours=hours),
    )
    needs_root = any(one.issuer is not None for one in (*trust.signers, *trust.deciders))
    root = load_trust_root(settings.trusted_root_file) if needs_root or settings.trusted_root_file else None
    return Admission(trust, BundleVerifier(tuple(keys), root), SystemClock(), settings.evidence_root)


def _identities(signers: Sequence[SignerSettings], keys: list[PublicKey]) -> tuple[Identity, ...]:
    """Return whom the settings name, and add their keys to `keys`."""
    from pratique.release.policy.document import Identity
    from pratique.release.signing.keys import load_public_key

    found = []
    for one in signers:
        if one.key is not None and one.issuer is None and one.subject is None:
            keys.append(load_public_key(one.key))
            found.append(Identity(key=keys[-1].fingerprint))
        elif one.key is None and _is_named(one.issuer, one.subject):
            found.append(Identity(issuer=one.issuer, subject=one.subject))
        else:
            raise CallerError(
                f"expected a signer with a key, or with issuer and subject, got key={one.key}, issuer={one.issuer},"
                f" subject={one.subject}",
                hint="A subject may have `*`, but does not begin with it.",
            )
    return tuple(found)


def _is_named(issuer: str | None, subject: str | None) -> bool:
    """Whether an identity is one that a policy would take too."""
    from pratique.release.policy.patterns import is_exact, pattern_problem

    return bool(issuer) and is_exact(issuer or "") and not pattern_problem(subject or "")


def artifact_of(manifest: Manifest, folder: Path, *, base: Digest | None) -> ModelArtifact:
    """Return the artifact that an imported folder is: its files, and the import's own manifest.

    Args:
        manifest: the folder's, which its files were compared with.
        folder: the model's.
        base: of an adapter, the artifact of its model.
    """
    from pratique.inference.artifacts.manifest import MANIFEST, hash_file
    from pratique.release.models.artifact import ModelArtifact, ModelFile
    from pratique.release.values import Digest

    def file(name: str, sha256: str, size_bytes: int) -> ModelFile:
        return ModelFile(name, Digest(f"sha256:{sha256}"), size_bytes)

    record = folder / MANIFEST
    files = [file(entry.name, entry.sha256, entry.size_bytes) for entry in manifest.files]
    files.append(file(MANIFEST, hash_file(record), record.stat().st_size))
    is_adapter = any(entry.name == "adapter_config.json" for entry in manifest.files)
    return ModelArtifact(
        kind="adapter" if is_adapter else "model",
        name=manifest.name,
        files=tuple(sorted(files)),
        licence=manifest.licence,
        base=base,
    )
