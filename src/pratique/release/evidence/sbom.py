"""The bill of materials of an image, by syft: what varies taken out, valid, and held against the image's own books."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from pratique.release.build.layout import read_layout
from pratique.release.build.programs import Program, run
from pratique.release.components import read_components
from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import EvidenceError, ToolMissingError
from pratique.release.evidence.cyclonedx import normalise_sbom, require_valid
from pratique.release.evidence.installed import missing_from, packages_of
from pratique.release.evidence.interface import Image, Predicate
from pratique.release.evidence.settings import EvidenceSettings
from pratique.release.predicates import SBOM

__all__ = ["SbomCollector", "find_syft", "require_whole"]

_SHOWN: Final = 10


class _Config(msgspec.Struct, frozen=True):
    created: str = ""


class SbomCollector:
    """Lists the components of an image."""

    name = "sbom"

    def __init__(self, settings: EvidenceSettings) -> None:
        self._settings = settings

    def collect(self, image: Image) -> Predicate:
        """Run syft over the layers, and check what it says.

        Raises:
            EvidenceError: it found nothing, wrote what is not CycloneDX 1.6, or left out what the image's books name.
            ToolMissingError, ToolFailedError: syft is not installed, failed, or took too long.
        """
        document = normalise_sbom(self._run(image), image.subject, _created(image.config))
        require_whole(msgspec.json.encode(document), image)
        return Predicate(SBOM, document)

    def _run(self, image: Image) -> bytes:
        with tempfile.TemporaryDirectory(prefix="pratique-syft-") as work:
            config = Path(work) / "empty.yaml"
            config.write_text("{}", encoding="utf-8")
            return run(
                find_syft(),
                [
                    "scan",
                    f"oci-dir:{image.layout.resolve()}",
                    *("--output", "cyclonedx-json@1.6"),
                    *("--scope", "squashed"),
                    *("--source-name", image.subject.repository, "--source-version", image.subject.digest),
                    *("--config", str(config)),
                    "--quiet",
                ],
                timeout_seconds=self._settings.syft_timeout_seconds,
                cwd=Path(work),  # syft also reads settings from the folder that it runs in
                environment={"SYFT_CHECK_FOR_APP_UPDATE": "false", "TMPDIR": work},
            )


def require_whole(document: bytes, image: Image) -> None:
    """Hold a bill of materials against the standard, and against what the image's own books name.

    Raises:
        EvidenceError: it is not CycloneDX 1.6, or leaves something out.
    """
    require_valid(document)
    found = missing_from(read_components(document), packages_of(read_layout(image.layout)))
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise EvidenceError(
            f"the bill of materials leaves out {len(found)} packages that the image has:"
            f" {', '.join(map(str, found[:_SHOWN]))}{more}",
            hint="Is syft configured to leave something out, by SYFT_… in the environment?",
        )


def find_syft() -> Program:
    """Return syft: of the environment that this runs in, else from the path.

    Raises:
        ToolMissingError: it is in neither.
    """
    beside = Path(sys.executable).with_name("syft")
    found = str(beside) if beside.is_file() else shutil.which("syft")
    if found is None:
        raise ToolMissingError("the program 'syft' is needed, and is not here", hint="pip install 'pratique[release]'")
    return Program(found, "syft")


def _created(config: bytes) -> str:
    try:
        return decode_json(config, _Config).created
    except MalformedError as error:
        raise EvidenceError(f"the image's configuration cannot be read: {error}") from error
