"""Builds with BuildKit, by `docker buildx build`, where there is a Docker engine with it.

BuildKit shuts the network instruction by instruction: the Dockerfile is rewritten so that every RUN outside the stages
with network says `--network=none`. The rest is asked for by flags. Bases come from their registries by digest; a
folder with a base is not taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pratique.release.build.dockerfile import Dockerfile, parse_dockerfile
from pratique.release.build.errors import StepFailedError
from pratique.release.build.interface import BuilderIdentity, BuiltStage, Exported, StageBuild
from pratique.release.build.layout import LayoutImage, blob_path, read_layout
from pratique.release.build.programs import Program, require_programs, run
from pratique.release.errors import ToolFailedError

__all__ = ["DOCKER", "BuildKitBuilder", "build_words", "shut_network"]

DOCKER: Final = Program("docker", "docker.io docker-buildx")
_VERSION: Final = re.compile(r"buildx v?(\d[^\s]*)")
_RUN: Final = re.compile(r"(\s*RUN)(\s)", re.IGNORECASE)
_ASK_SECONDS: Final = 30.0


class BuildKitBuilder:
    """One build's BuildKit. Its cache is the engine's: the first stage of each build is built without it."""

    def __init__(self, storage: Path, log: Path) -> None:
        require_programs(DOCKER)
        self._storage = storage
        self._log = log
        self._num_built = 0

    def identity(self) -> BuilderIdentity:
        """Ask buildx."""
        said = run(DOCKER, ["buildx", "version"], timeout_seconds=_ASK_SECONDS).decode(errors="replace")
        found = _VERSION.search(said)
        if found is None:
            raise ToolFailedError(f"expected the version of docker buildx, got '{said[:100]}'")
        return BuilderIdentity("buildkit", found[1], (("exporter", "oci"), ("rewrite-timestamp", "true")))

    def provide(self, reference: str, image: LayoutImage) -> None:
        """Do nothing: BuildKit fetches by the digest in the Dockerfile, which was checked to be this image's."""

    def build(self, stage: StageBuild) -> BuiltStage:
        """Run buildx for one target."""
        self._num_built += 1
        output = self._storage / f"built-{self._num_built}"
        text = stage.dockerfile.read_text(encoding="utf-8")
        shut = self._storage / "Dockerfile"
        shut.write_text(shut_network(parse_dockerfile(text), stage.network_stages), encoding="utf-8")
        ignore = stage.dockerfile.with_name(stage.dockerfile.name + ".dockerignore")
        if ignore.exists():
            shut.with_name("Dockerfile.dockerignore").write_bytes(ignore.read_bytes())
        words = list(build_words(stage, shut, output, is_first=self._num_built == 1))
        try:
            run(DOCKER, words, timeout_seconds=stage.timeout_seconds, log=self._log, cwd=stage.context)
        except ToolFailedError as error:
            raise StepFailedError(f"the stage '{stage.target}' was not built: {error.message}") from error
        return BuiltStage(str(output))

    def export(self, built: BuiltStage, folder: Path) -> Exported:  # noqa: ARG002 - it is written already
        """Say where buildx wrote it."""
        image = read_layout(Path(built))
        return Exported(image.config, tuple(blob_path(image.folder, layer.digest) for layer in image.layers))


def shut_network(dockerfile: Dockerfile, network_stages: tuple[str, ...]) -> str:
    """Write the Dockerfile so that only some stages have network. Pure."""
    parts = [dockerfile.head]
    for stage in dockerfile.stages:
        parts.append(stage.raw)
        for instruction in stage.instructions:
            is_shut = instruction.keyword == "RUN" and stage.name not in network_stages
            parts.append(_RUN.sub(r"\1 --network=none\2", instruction.raw, count=1) if is_shut else instruction.raw)
    return "".join(parts)


def build_words(stage: StageBuild, dockerfile: Path, output: Path, *, is_first: bool) -> Iterator[str]:
    """Return docker's arguments for one stage. Pure."""
    yield from ("buildx", "build", "--progress", "plain", "--provenance=false", "--sbom=false")
    yield from ("--file", str(dockerfile), "--target", stage.target)
    yield from ("--output", f"type=oci,tar=false,dest={output},rewrite-timestamp=true,compression=gzip")
    yield from ("--build-arg", f"SOURCE_DATE_EPOCH={stage.epoch}")
    if is_first:
        yield "--no-cache"
    for name, value in sorted(stage.arguments.items()):
        yield from ("--build-arg", f"{name}={value}")
    for name, path in sorted(stage.contexts.items()):
        yield from ("--build-context", f"{name}={path}")
    for name, path in sorted(stage.secrets.items()):
        yield from ("--secret", f"id={name},src={path}")
    yield str(stage.context)
