"""The table [release]: one table in it for each room."""

from __future__ import annotations

from pratique.core.settings import Settings
from pratique.release.advisories.settings import AdvisoriesSettings
from pratique.release.build.settings import BuildSettings
from pratique.release.evaluation.settings import EvaluationSettings
from pratique.release.evidence.hygiene.settings import HygieneSettings
from pratique.release.evidence.settings import EvidenceSettings
from pratique.release.ledger.settings import LedgerSettings
from pratique.release.lock.settings import LockSettings
from pratique.release.mirror.settings import MirrorSettings
from pratique.release.policy.settings import PolicySettings
from pratique.release.promotion.settings import PromotionSettings
from pratique.release.registry.settings import RegistrySettings
from pratique.release.signing.settings import SigningSettings
from pratique.release.triage.settings import TriageSettings

__all__ = ["ReleaseSettings"]


class ReleaseSettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every room's settings."""

    advisories: AdvisoriesSettings = AdvisoriesSettings()
    """Where known vulnerabilities are looked up."""
    build: BuildSettings = BuildSettings()
    """How images are built."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """How a golden set is put to a server."""
    evidence: EvidenceSettings = EvidenceSettings()
    """How evidence is collected."""
    hygiene: HygieneSettings = HygieneSettings()
    """What images may carry."""
    ledger: LedgerSettings = LedgerSettings()
    """Where what happened is kept."""
    policy: PolicySettings = PolicySettings()
    """Which policy the gate reads."""
    lock: LockSettings = LockSettings()
    """What a lock may name."""
    mirror: MirrorSettings = MirrorSettings()
    """The mirror of approved packages."""
    promotion: PromotionSettings = PromotionSettings()
    """How a release gets the traffic, and loses it."""
    registry: RegistrySettings = RegistrySettings()
    """How registries are asked, and the front before one."""
    signing: SigningSettings = SigningSettings()
    """Who signs, and whose signatures are verified."""
    triage: TriageSettings = TriageSettings()
    """Where triage looks, and whom the watcher of a feed tells."""
