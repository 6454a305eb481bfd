"""Builds with buildah, without a daemon: chroot isolation, a storage root per build, no network by a namespace.

- Every stage is built by itself, over those that it needs, so that each has its own network or none. A stage that is
  built stands in the Dockerfile as its image: of one from its cache, buildah 1.28 mounts the wrong content.
- Every program runs in a mount namespace of its own, so that nothing stays mounted, whatever ends it.
- Docker's image format is asked for, because buildah leaves HEALTHCHECK out of OCI's.
- `--timestamp` gives every file and the image one time; buildah 1.28 does not read SOURCE_DATE_EPOCH.
- The storage driver decides the order of a layer's entries, so it is fixed, and part of the record.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from pratique.release.build import _offline
from pratique.release.build.dockerfile import Dockerfile, Stage, parse_dockerfile
from pratique.release.build.errors import StepFailedError
from pratique.release.build.interface import BuilderIdentity, BuiltStage, Exported, StageBuild
from pratique.release.build.layout import LayoutImage
from pratique.release.build.programs import Program, require_programs, run
from pratique.release.decoding import MalformedError, decode_json
from pratique.release.errors import ToolFailedError

__all__ = ["BUILDAH", "SKOPEO", "UNSHARE", "BuildahBuilder", "build_words", "with_built"]

BUILDAH: Final = Program("buildah", "buildah")
SKOPEO: Final = Program("skopeo", "skopeo")
UNSHARE: Final = Program("unshare", "util-linux")
_VERSION: Final = re.compile(r"buildah version (\S+)")
_COPY_SECONDS: Final = 600.0
_ASK_SECONDS: Final = 30.0


class _Descriptor(msgspec.Struct, frozen=True):
    digest: str

    def in_folder(self, folder: Path) -> Path:
        return folder / self.digest.removeprefix("sha256:")


class _Manifest(msgspec.Struct, frozen=True):
    config: _Descriptor
    layers: tuple[_Descriptor, ...]


class BuildahBuilder:
    """One build's buildah."""

    def __init__(self, storage: Path, log: Path, *, driver: Literal["overlay", "vfs"] = "overlay") -> None:
        require_programs(BUILDAH, SKOPEO, UNSHARE)
        if os.geteuid() != 0:
            raise ToolFailedError(
                f"shutting the network of a build needs root, and this process runs as user {os.geteuid()}",
                hint='Run it as root, in a container or virtual machine of its own; or set builder = "buildkit".',
            )
        self._root, self._run = storage / "root", storage / "run"
        self._temporary = storage / "tmp"
        self._temporary.mkdir(parents=True, exist_ok=True)
        self._log = log
        self._driver = driver
        self._built: dict[int, str] = {}

    def identity(self) -> BuilderIdentity:
        """Ask buildah."""
        said = run(BUILDAH, ["--version"], timeout_seconds=_ASK_SECONDS).decode(errors="replace")
        found = _VERSION.search(said)
        if found is None:
            raise ToolFailedError(f"expected 'buildah version …' of buildah --version, got '{said[:100]}'")
        parameters = (("format", "docker"), ("isolation", "chroot"), ("storage_driver", self._driver))
        return BuilderIdentity("buildah", found[1], parameters)

    def provide(self, reference: str, image: LayoutImage) -> None:
        """Copy a base into the storage."""
        name = re.sub(r"(:[^/@:]+)?@sha256:[0-9a-f]{64}\Z", "", reference)
        target = f"containers-storage:[{self._driver}@{self._root}+{self._run}]{name}:provided"
        words = ["copy", "--quiet", "--preserve-digests", f"oci:{image.folder}", target]
        self._run_alone(SKOPEO, words, timeout_seconds=_COPY_SECONDS)

    def build(self, stage: StageBuild) -> BuiltStage:
        """Run buildah for every stage that the target needs."""
        dockerfile = parse_dockerfile(stage.dockerfile.read_text(encoding="utf-8"))
        needed = dockerfile.needed_for(stage.target)
        for one in needed:
            if one.index not in self._built:
                self._built[one.index] = self._build_one(stage, dockerfile, one)
        return BuiltStage(self._built[needed[-1].index])

    def _build_one(self, stage: StageBuild, dockerfile: Dockerfile, one: Stage) -> str:
        target = one.name or str(one.index)
        file = self._temporary / f"Dockerfile-{target}"
        file.write_text(with_built(dockerfile, self._built), encoding="utf-8")
        id_file = self._temporary / f"built-{target}"
        words = [*self._storage_words(), *build_words(stage, file, target, id_file)]
        is_offline = one.name not in stage.network_stages
        try:
            self._run_alone(BUILDAH, words, timeout_seconds=stage.timeout_seconds, is_offline=is_offline)
        except ToolFailedError as error:
            raise StepFailedError(f"the stage '{target}' was not built: {error.message}") from error
        return id_file.read_text(encoding="ascii").strip()

    def export(self, built: BuiltStage, folder: Path) -> Exported:
        """Write manifest, configuration and plain layers."""
        words = [*self._storage_words(), "push", "--quiet", "--disable-compression", built, f"dir:{folder}"]
        self._run_alone(BUILDAH, words, timeout_seconds=_COPY_SECONDS)
        try:
            manifest = decode_json((folder / "manifest.json").read_bytes(), _Manifest)
        except (OSError, MalformedError) as error:
            raise ToolFailedError(f"buildah push wrote no manifest that can be read: {error}") from error
        layers = tuple(layer.in_folder(folder) for layer in manifest.layers)
        return Exported(manifest.config.in_folder(folder).read_bytes(), layers)

    def _run_alone(
        self, program: Program, words: Sequence[str], *, timeout_seconds: float, is_offline: bool = False
    ) -> None:
        """Run a program in namespaces that end with it."""
        alone = ["--mount", "--propagation", "private"]
        shut = ["--net", "--", sys.executable, "-I", _offline.__file__] if is_offline else ["--"]
        run(
            UNSHARE,
            [*alone, *shut, program.find(), *words],
            timeout_seconds=timeout_seconds,
            log=self._log,
            environment=self._environment(),
        )

    def _storage_words(self) -> list[str]:
        return ["--root", str(self._root), "--runroot", str(self._run), "--storage-driver", self._driver]

    def _environment(self) -> dict[str, str]:
        # Switches of the machine's user would change what is built.
        return {"TMPDIR": str(self._temporary), "BUILDAH_LAYERS": "", "BUILDAH_FORMAT": "", "STORAGE_OPTS": ""}


def with_built(dockerfile: Dockerfile, built: Mapping[int, str]) -> str:
    """Write the Dockerfile with stages that are built as their images; numbers and names of stages stay. Pure."""
    parts = [dockerfile.head]
    for stage in dockerfile.stages:
        if stage.index in built:
            parts.append(f"FROM {built[stage.index]}{f' AS {stage.name}' if stage.name else ''}\n")
        else:
            parts += [stage.raw, *(one.raw for one in stage.instructions)]
    return "".join(parts)


def build_words(stage: StageBuild, file: Path, target: str, id_file: Path) -> Iterator[str]:
    """Return buildah's arguments for one stage, without those of the storage. Pure."""
    yield from ("bud", "--isolation", "chroot", "--format", "docker", "--timestamp", str(stage.epoch))
    yield from ("--layers", "--no-cache", "--pull=never", "--identity-label=false", "--target", target)
    yield from ("--iidfile", str(id_file), "--file", str(file))
    ignore = stage.dockerfile.with_name(stage.dockerfile.name + ".dockerignore")
    if ignore.exists():
        yield from ("--ignorefile", str(ignore))
    for name, value in sorted(stage.arguments.items()):
        yield from ("--build-arg", f"{name}={value}")
    for name, path in sorted(stage.contexts.items()):
        yield from ("--build-context", f"{name}={path}")
    for name, path in sorted(stage.secrets.items()):
        yield from ("--secret", f"id={name},src={path}")
    yield str(stage.context)
