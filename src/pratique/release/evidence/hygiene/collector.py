"""The collector: every rule that can run on an image, and on its Dockerfile where that is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pratique.release.build.layertar import LayerLimits
from pratique.release.build.layout import read_layout
from pratique.release.errors import EvidenceError
from pratique.release.evidence.hygiene.config import CONFIG_RULES, findings_in_config, parse_config
from pratique.release.evidence.hygiene.files import FILE_RULES, findings_in_files
from pratique.release.evidence.hygiene.findings import settle
from pratique.release.evidence.hygiene.layers import (
    LAYER_RULES,
    findings_in_secrets,
    findings_in_weight,
    read_layers,
)
from pratique.release.evidence.hygiene.lint import lint_dockerfile
from pratique.release.evidence.hygiene.settings import HygieneSettings
from pratique.release.evidence.interface import Image, Predicate
from pratique.release.predicates import HYGIENE, Hygiene

__all__ = ["HygieneCollector", "inspect_layout"]

LINT_RULE: Final = "dockerfile"


@dataclass(frozen=True, slots=True)
class HygieneCollector:
    """Looks at what an image carries."""

    settings: HygieneSettings
    dockerfile: Path | None = None
    """What it was built from; without it, that rule is not among those that ran."""

    @property
    def name(self) -> str:
        """The collector's name."""
        return "hygiene"

    def collect(self, image: Image) -> Predicate:
        """Look at the image's layout.

        Raises:
            EvidenceError: the layout holds another image, or a layer is malformed.
            ToolMissingError, ToolFailedError: hadolint could not look at the Dockerfile.
        """
        return Predicate(
            HYGIENE, inspect_layout(image.layout, self.settings, self.dockerfile, expected=image.subject.digest)
        )


def inspect_layout(
    folder: Path, settings: HygieneSettings, dockerfile: Path | None = None, *, expected: str | None = None
) -> Hygiene:
    """Look at the one image of a layout.

    Raises:
        EvidenceError: it holds another image than expected, or a layer is malformed.
        ToolMissingError, ToolFailedError: hadolint could not look at the Dockerfile.
    """
    image = read_layout(folder)
    if expected is not None and image.digest != expected:
        raise EvidenceError(f"{folder} holds {image.digest}, and {expected} was to be looked at")
    if not image.layers:
        raise EvidenceError(f"{image.digest} has no layer: there is nothing to look at")
    limits = LayerLimits(num_bytes=settings.num_bytes_limit, num_entries=settings.num_entries_limit)
    tree, report = read_layers(image, limits)
    size = sum(layer.size_bytes for layer in image.layers)
    findings = [
        *findings_in_config(parse_config(image.config)),
        *findings_in_secrets(tree, report),
        *findings_in_files(tree),
        *findings_in_weight(
            tree, size=size, size_budget=settings.size_budget_bytes, wasted_budget=settings.wasted_budget_bytes
        ),
    ]
    checked = [*CONFIG_RULES, *FILE_RULES, *LAYER_RULES]
    if dockerfile is not None:
        findings += lint_dockerfile(dockerfile)
        checked.append(LINT_RULE)
    return Hygiene(
        findings=settle(findings, settings.allow),
        checked=tuple(sorted(checked)),
        size_bytes=size,
        wasted_bytes=tree.wasted_bytes,
    )
