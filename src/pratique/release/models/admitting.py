"""The model server's question, answered from files: the manifest and the bundles beside a model's folder. Offline."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pratique.core.clock import Clock
from pratique.core.errors import RefusedError
from pratique.release.models.admission import Admitted, NotAdmittedError, Trust, admit
from pratique.release.models.artifact import read_artifact
from pratique.release.models.evidence import load_evidence
from pratique.release.signing.interface import Attestation, Verifier
from pratique.release.values import digest_of

__all__ = ["Admission", "evidence_beside"]


def evidence_beside(folder: Path) -> Path:
    """Return where a model's evidence lies unless somebody says otherwise: `NAME.evidence`, beside the folder."""
    named = folder.absolute()
    return named.with_name(f"{named.name}.evidence")


@dataclass(frozen=True, slots=True)
class Admission:
    """Says of a model's folder what may be in it, and who vouches for that. Safe to use from several threads."""

    trust: Trust
    verifier: Verifier
    clock: Clock
    evidence_root: Path | None = None
    """Where the evidence of all models lies, each under `NAME.evidence`; None: beside each."""

    def __call__(self, folder: Path) -> Admitted:
        """Return the artifact that the folder must hold. The folder itself is not looked at.

        Raises:
            EvidenceError: there is no evidence, or it is malformed.
            NotAdmittedError: nobody who is believed signed it, or let it through.
            ModelFolderError: it cannot be read.
        """
        beside = evidence_beside(folder)
        evidence = load_evidence(beside if self.evidence_root is None else self.evidence_root / beside.name)
        artifact, digest = read_artifact(evidence.manifest), digest_of(evidence.manifest)
        attestations, reasons = self._verified(evidence.bundles)
        now = datetime.fromtimestamp(self.clock.epoch(), UTC)
        try:
            return admit(artifact, digest, attestations, trust=self.trust, now=now)
        except NotAdmittedError as error:
            if not reasons:
                raise
            message = f"{error.message}; not verified: {'; '.join(reasons[:3])}"
            raise NotAdmittedError(message, hint=error.hint) from error

    def _verified(self, bundles: tuple[bytes, ...]) -> tuple[list[Attestation], list[str]]:
        found, reasons = [], []
        for bundle in bundles:
            try:
                found.append(self.verifier.verify(bundle))
            except RefusedError as error:
                reasons.append(error.message)
        return found, reasons
