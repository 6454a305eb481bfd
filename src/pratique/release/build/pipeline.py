"""One build, from a commit to an image and its record.

The order is the point:

1. The work tree must be its commit; the commit's files become the context.
2. The Dockerfile must keep the rules; the bases are fetched by digest.
3. The stages with network are built, and what they brought is held against the locks.
4. The tests run in the image's own stage, without network; then the stage to ship is built, without network.
5. What the builder wrote is reduced to what follows from the inputs, and written as an OCI layout.
6. Where asked, 3 and 5 happen again in an empty storage, and both results are compared.
"""

from __future__ import annotations

import platform
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from pratique.core.clock import Clock
from pratique.core.ids import IdSource
from pratique.release.build.bases import fetch_bases
from pratique.release.build.differences import differences_of
from pratique.release.build.dockerfile import Dockerfile, parse_dockerfile
from pratique.release.build.downloads import downloads_of, hashes_in_lock, require_listed
from pratique.release.build.errors import BuildRequestError, NotReproducibleError, StepFailedError, TestStageError
from pratique.release.build.interface import Builder, BuilderFactory, BuiltStage, StageBuild
from pratique.release.build.layout import LayoutImage, add_layer, copy_layer, digest_of_file, write_image
from pratique.release.build.normalise import normalise_config, rfc3339
from pratique.release.build.record import BuilderRecord, BuildRecord, Material, SourceRecord, write_record
from pratique.release.build.rules import BuildRules, external_images, require_rules
from pratique.release.build.settings import BuildSettings
from pratique.release.build.source import Source, copy_plain, export_tree, read_source
from pratique.release.build.trees import tree_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BuildRequest", "BuildResult", "Plan", "Workplace", "build_image", "plan_image"]

RECORD: Final = "build-record.json"
LOG: Final = "build.log"
IMAGE: Final = "image"
_SHOWN: Final = 30


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build."""

    context: Path
    """A folder of a checkout; its commit's files are the build context."""
    dockerfile: str
    """The path in the context."""
    output: Path
    """Where image, record and log are written; made, and emptied of those three."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    base_layouts: tuple[Path, ...] = ()
    """Layouts with bases that the Dockerfile names by digest; the others are fetched from their registries."""
    artifacts: Mapping[str, Path] = field(default_factory=dict)
    """Folders beside the commit, by the name that the Dockerfile copies from; recorded by digest."""
    secrets: Mapping[str, Path] = field(default_factory=dict)
    locks: tuple[str, ...] = ()
    """Paths in the context."""
    repository: str = ""
    """The source's address, where git's remote does not say it."""
    since: str = ""
    """An earlier commit, that of the release in production: who wrote something after it is an author too."""
    allow_dirty: bool = False
    verify: bool = False


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What was built."""

    image: LayoutImage
    record: BuildRecord
    tag: str


@dataclass(frozen=True, slots=True)
class Workplace:
    """What a build needs beside its request."""

    settings: BuildSettings
    make_builder: BuilderFactory
    clock: Clock
    ids: IdSource
    say: Callable[[str], None]
    """Told what is going on, line by line, for people."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A request that holds together: nothing was built yet."""

    request: BuildRequest
    source: Source
    dockerfile: Dockerfile
    rules: BuildRules
    images: tuple[str, ...]
    """The bases, by digest."""


def plan_image(request: BuildRequest, settings: BuildSettings, context: Path) -> Plan:
    """Check a request, and write its context into an empty folder.

    Raises:
        DirtyTreeError: the work tree is not its commit.
        DockerfileRefusedError: the Dockerfile breaks a rule.
        BuildRequestError: a file that is named is not in the commit.
    """
    source = read_source(
        request.context, allow_dirty=request.allow_dirty, repository=request.repository, since=request.since
    )
    export_tree(source, context)
    for name in (request.dockerfile, *request.locks):
        if not _is_file_in(context, name):
            raise BuildRequestError(f"the commit {source.commit[:12]} has no file '{name}'")
    rules = BuildRules(settings.target, settings.test_stage, settings.network_stages, frozenset(request.artifacts))
    dockerfile = parse_dockerfile((context / request.dockerfile).read_text(encoding="utf-8", errors="replace"))
    require_rules(dockerfile, rules, request.arguments)
    return Plan(request, source, dockerfile, rules, external_images(dockerfile, rules, request.arguments))


def _is_file_in(context: Path, name: str) -> bool:
    path = (context / name).resolve()
    return path.is_file() and path.is_relative_to(context.resolve())


def build_image(request: BuildRequest, at: Workplace) -> BuildResult:
    """Build an image.

    Raises:
        RefusedError: a rule is broken, tests fail, a download is unlisted, or two builds differ.
        EnvironmentFaultError: a program is missing or failed.
    """
    started = at.clock.epoch()
    request.output.mkdir(parents=True, exist_ok=True)
    log = request.output / LOG
    log.write_bytes(b"")
    with TemporaryDirectory(prefix="pratique-build-", ignore_cleanup_errors=True) as work:
        folder = Path(work)
        build = _Build(plan_image(request, at.settings, folder / "context"), at, folder, log)
        first = build.once("first", request.output / IMAGE)
        if request.verify:
            at.say("building again from nothing, to compare")
            _require_same(first.image, build.once("second", folder / "second-image", with_tests=False).image)
        record = build.record(first, started=started)
    write_record(request.output / RECORD, record)
    return BuildResult(first.image, record, record.tag)


@dataclass(frozen=True, slots=True)
class _Once:
    """One time through."""

    image: LayoutImage
    downloads: tuple[Material, ...]
    builder: Builder


class _Build:
    """The steps, over what they share."""

    def __init__(self, plan: Plan, at: Workplace, folder: Path, log: Path) -> None:
        self._plan, self._at, self._folder, self._log = plan, at, folder, log
        self._context = folder / "context"
        request = plan.request
        self._artifacts = {name: folder / "artifacts" / name for name in request.artifacts}
        for name, path in request.artifacts.items():
            if not path.is_dir():
                raise BuildRequestError(f"the artifact '{name}' must be a folder, and {path} is none")
            copy_plain(path, self._artifacts[name])
        seconds = at.settings.transfer_timeout_seconds
        with _step(at, f"taking {len(plan.images)} base images by digest"):
            self._bases = fetch_bases(
                plan.images, request.base_layouts, into=folder / "bases", log=log, timeout_seconds=seconds
            )

    def once(self, name: str, output: Path, *, with_tests: bool = True) -> _Once:
        """Build everything in a storage of its own."""
        storage = self._folder / name
        storage.mkdir()
        builder = self._at.make_builder(storage, self._log)
        settings = self._at.settings
        with _step(self._at, f"giving them to {builder.identity().name}"):
            for reference, image in self._bases.items():
                builder.provide(reference, image)
        downloads = self._dependency_step(builder, storage)
        if with_tests:
            try:
                self._stage(builder, settings.test_stage, "running the tests of the stage")
            except StepFailedError as error:
                raise TestStageError(error.message, hint=error.hint) from error
        built = self._stage(builder, settings.target, "building the stage")
        with _step(self._at, "writing the image"):
            image = self._write(builder, built, storage, output)
        rmtree(storage, ignore_errors=True)
        return _Once(image, downloads, builder)

    def _dependency_step(self, builder: Builder, storage: Path) -> tuple[Material, ...]:
        found: dict[str, Material] = {}
        for name in self._at.settings.network_stages:
            if self._plan.dockerfile.stage(name) is None:
                continue
            built = self._stage(builder, name, "building, with network, the stage")
            exported = builder.export(built, storage / f"exported-{name}")
            for material in downloads_of(exported, self._at.settings.downloads):
                found[material.name] = material
        allowed = {digest for path in self._locks() for digest in hashes_in_lock(path.read_text(encoding="utf-8"))}
        require_listed(found.values(), allowed, [Path(lock) for lock in self._plan.request.locks])
        return tuple(found[name] for name in sorted(found))

    def _locks(self) -> list[Path]:
        return [self._context / name for name in self._plan.request.locks]

    def _stage(self, builder: Builder, target: str, what: str) -> BuiltStage:
        request, settings = self._plan.request, self._at.settings
        stage = StageBuild(
            dockerfile=self._context / request.dockerfile,
            context=self._context,
            target=target,
            epoch=self._plan.source.committed_at,
            network_stages=settings.network_stages,
            timeout_seconds=settings.stage_timeout_seconds,
            arguments=request.arguments,
            contexts=self._artifacts,
            secrets=request.secrets,
        )
        with _step(self._at, f"{what} '{target}'"):
            return builder.build(stage)

    def _write(self, builder: Builder, built: BuiltStage, storage: Path, output: Path) -> LayoutImage:
        """Write the layout; a base's layers are taken over as they lie there."""
        exported = builder.export(built, storage / "exported")
        rmtree(output, ignore_errors=True)
        known = {layer.diff_id: (image, layer) for image in self._bases.values() for layer in image.layers}
        layers = []
        for path in exported.layers:
            # An exported layer that is plain has its diff_id for a digest: nothing is compressed twice.
            base = known.get(digest_of_file(path))
            if base is not None:
                layers.append(copy_layer(output, *base))
                continue
            with path.open("rb") as stream:
                layers.append(add_layer(output, stream))
        labels = self._labels()
        diff_ids = tuple(layer.diff_id for layer in layers)
        config = normalise_config(exported.config, diff_ids, labels, self._plan.source.committed_at)
        return write_image(output, config, layers, annotations=labels)

    def _labels(self) -> dict[str, str]:
        """Return the labels of OCI's annotation keys, from the commit alone."""
        source = self._plan.source
        labels = {
            "org.opencontainers.image.created": rfc3339(source.committed_at),
            "org.opencontainers.image.revision": source.revision,
            "org.opencontainers.image.source": source.repository,
            "org.opencontainers.image.version": source.version,
        }
        return {name: value for name, value in labels.items() if value}

    def record(self, built: _Once, *, started: float) -> BuildRecord:
        """Say what went in, and what came out."""
        request, source, settings = self._plan.request, self._plan.source, self._at.settings
        identity = built.builder.identity()
        return BuildRecord(
            image=built.image.digest,
            tag=source.revision,
            invocation_id=self._at.ids.new("bld"),
            source=SourceRecord(
                repository=source.repository,
                commit=source.commit,
                committed_at=_moment(source.committed_at),
                is_dirty=bool(source.changes),
                authors=source.authors,
            ),
            builder=BuilderRecord(
                id=settings.builder_id,
                name=identity.name,
                version=identity.version,
                parameters={**dict(identity.parameters), "zlib": zlib.ZLIB_RUNTIME_VERSION},
            ),
            dockerfile=_material(self._context, request.dockerfile),
            bases=tuple(
                Material(name=reference, digest=image.digest) for reference, image in sorted(self._bases.items())
            ),
            locks=tuple(_material(self._context, name) for name in request.locks),
            downloads=built.downloads,
            artifacts=tuple(
                Material(name=name, digest=tree_digest(path)) for name, path in sorted(self._artifacts.items())
            ),
            parameters={
                "target": settings.target,
                "test_stage": settings.test_stage,
                "network_stages": ",".join(settings.network_stages),
                "platform": f"linux/{platform.machine()}",
                "source_date_epoch": str(source.committed_at),
                **{f"arg:{name}": value for name, value in sorted(request.arguments.items())},
            },
            secret_names=tuple(sorted(request.secrets)),
            is_reproduced=True if request.verify else None,
            started_at=_moment(started),
            finished_at=_moment(self._at.clock.epoch()),
            log=Material(name=LOG, digest=digest_of_file(self._log)),
        )


def _material(context: Path, name: str) -> Material:
    return Material(name=name, digest=digest_of_file(context / name))


def _moment(epoch: float) -> datetime:
    return datetime.fromtimestamp(int(epoch), UTC)


def _require_same(first: LayoutImage, second: LayoutImage) -> None:
    differences: Sequence[object] = differences_of(first, second)
    if differences:
        more = f"\n  … and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise NotReproducibleError(
            "two builds of the same inputs differ:\n" + "\n".join(f"  {one}" for one in differences[:_SHOWN]) + more,
            hint="docs/release/build.md lists what usually makes a build differ.",
        )


@contextmanager
def _step(at: Workplace, what: str) -> Iterator[None]:
    at.say(f"{what} …")
    began = at.clock.monotonic()
    yield
    at.say(f"{what}: {at.clock.monotonic() - began:.1f} s")
