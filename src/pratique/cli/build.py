"""`pratique build`, and `base`, `compare` and `inspect` below it: parse, call, render."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from pratique.cli._signing import Config
from pratique.core.clock import SystemClock
from pratique.core.errors import CallerError
from pratique.core.ids import RandomIds
from pratique.core.settings import load_settings
from pratique.release.build.settings import BuildSettings
from pratique.release.plain import plain
from pratique.release.settings import ReleaseSettings

if TYPE_CHECKING:
    from pratique.release.build.interface import BuilderFactory
    from pratique.release.build.pipeline import BuildRequest, BuildResult

__all__ = ["app"]

app = typer.Typer(help="Build images of a commit, the same bits twice.")

_Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, and build nothing.")]


@app.callback(invoke_without_command=True)
def build(
    ctx: typer.Context,
    context: Annotated[Path, typer.Option(help="A folder of a checkout: its commit's files are built.")] = Path(),
    dockerfile: Annotated[str, typer.Option("--file", "-f", "--dockerfile", help="In that folder.")] = "Dockerfile",
    output: Annotated[Path, typer.Option(help="Folder for image, record and log.")] = Path("build/image"),
    target: Annotated[str | None, typer.Option(help="The stage to ship. [runtime]")] = None,
    build_arg: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; may be repeated.")] = None,
    base: Annotated[list[Path] | None, typer.Option(help="A base as OCI layout; may be repeated.")] = None,
    lock: Annotated[list[str] | None, typer.Option(help="A requirements file with hashes; may be repeated.")] = None,
    artifact: Annotated[list[str] | None, typer.Option(help="NAME=FOLDER to copy from; may be repeated.")] = None,
    secret: Annotated[list[str] | None, typer.Option(help="ID=FILE to be mounted; may be repeated.")] = None,
    source: Annotated[str, typer.Option(help="The repository's address. [git's remote origin]")] = "",
    since: Annotated[str, typer.Option(help="An earlier commit: authors after it are authors of this, too.")] = "",
    allow_dirty: Annotated[bool, typer.Option("--allow-dirty", help="Build what is not committed.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Build twice from nothing, and compare.")] = False,
    push: Annotated[str | None, typer.Option(help="Repository to push to, tagged with the commit.")] = None,
    config: Config = None,
    as_json: _Json = False,
    dry_run: _DryRun = False,
) -> None:
    """Build the image of a commit: bases by digest, tests first, no network after the dependency step."""
    if ctx.invoked_subcommand is not None:
        return
    from pratique.release.build.pipeline import BuildRequest
    from pratique.release.build.push import require_repository

    if push is not None:
        require_repository(push)
    settings = _settings(config, target)
    request = BuildRequest(
        context=context.resolve(),
        dockerfile=dockerfile,
        output=output.resolve(),
        arguments=_pairs(build_arg, "--build-arg"),
        base_layouts=tuple(base or ()),
        artifacts=_folders(artifact, "--artifact"),
        secrets=_folders(secret, "--secret"),
        locks=tuple(lock or ()),
        repository=source,
        since=since,
        allow_dirty=allow_dirty,
        verify=verify,
    )
    if dry_run:
        _show_plan(request, settings, as_json=as_json)
        return
    _show_built(_build(request, settings, push), push, as_json=as_json)


@app.command("base")
def base_image(
    output: Annotated[Path, typer.Option(help="Folder for image, record and log.")],
    package: Annotated[list[str] | None, typer.Option(help="Debian package, NAME or NAME=VERSION; repeated.")] = None,
    suite: Annotated[str, typer.Option(help="Of Debian.")] = "bookworm",
    epoch: Annotated[int, typer.Option(envvar="SOURCE_DATE_EPOCH", min=0, help="No file is newer.")] = 0,
    mirror: Annotated[list[str] | None, typer.Option(help="A line of sources.list; repeated. [Debian's own]")] = None,
    as_json: _Json = False,
    dry_run: _DryRun = False,
) -> None:
    """Make a base image from Debian packages, without any registry."""
    from pratique.release.build.base import MMDEBSTRAP, BaseRequest, base_words, make_base

    request = BaseRequest(
        output=output.resolve(), packages=tuple(package or ()), suite=suite, epoch=epoch, mirrors=tuple(mirror or ())
    )
    if dry_run:
        words = base_words(request, Path("base.tar"))
        print("would run: mmdebstrap", *(word for word in words if "customize-hook" not in word), file=sys.stderr)
        return
    MMDEBSTRAP.find()
    request.output.mkdir(parents=True, exist_ok=True)
    _say("making a base of Debian packages: half a minute or more …")
    image, record = make_base(request, log=request.output / "base.log")
    if as_json:
        _print_json(record)
        return
    print(f"{image.digest}  {len(record.packages)} packages, {_size(image.layers)}, in {image.folder}")


@app.command("compare")
def compare(
    first: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="An OCI layout with one image.")],
    second: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Another.")],
    as_json: _Json = False,
) -> None:
    """Say whether two images are the same bits, and if not which file of which layer differs, and how."""
    from pratique.release.build.differences import differences_of
    from pratique.release.build.layout import read_layout

    images = read_layout(first), read_layout(second)
    found = differences_of(*images)
    if as_json:
        digests = [image.digest for image in images]
        print(msgspec.json.encode({"schema_version": 1, "images": digests, "differences": found}).decode())
    else:
        print("\n".join(plain(str(one)) for one in found) or f"the same: {images[0].digest}")
    if found:
        raise typer.Exit(1)


@app.command("inspect")
def inspect(
    layout: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="An OCI layout with one image.")],
    dockerfile: Annotated[
        Path | None, typer.Option("--file", "-f", "--dockerfile", help="What it was built from, to lint.")
    ] = None,
    config: Config = None,
    as_json: _Json = False,
) -> None:
    """Say what an image carries that it should not. Refused where there is an error among the findings."""
    from pratique.release.evidence.hygiene.collector import inspect_layout

    found = inspect_layout(layout, _release(config).hygiene, dockerfile)
    if as_json:
        print(msgspec.json.encode({"schema_version": 1, **msgspec.to_builtins(found)}).decode())
    else:
        for one in found.findings:
            print(plain(f"{one.level:8}{one.rule}  {one.where}  {one.message}"))
        _say(f"{len(found.checked)} rules; {found.size_bytes / 1e6:.1f} MB, {found.wasted_bytes / 1e6:.1f} MB wasted")
    if any(one.level == "error" for one in found.findings):
        raise typer.Exit(1)


def _settings(config: Path | None, target: str | None) -> BuildSettings:
    settings = _release(config).build
    return settings if target is None else msgspec.structs.replace(settings, target=target)


def _release(config: Path | None) -> ReleaseSettings:
    return load_settings(ReleaseSettings, part="release", file=config, environment=os.environ)


def _build(request: BuildRequest, settings: BuildSettings, push: str | None) -> BuildResult:
    from pratique.release.build.pipeline import Workplace, build_image
    from pratique.release.build.push import push_image

    clock = SystemClock()
    at = Workplace(settings, _factory(settings), clock, RandomIds(clock), _say)
    result = build_image(request, at)
    if push is not None:
        _say(f"pushing {push}:{result.tag} …")
        push_image(
            result.image,
            push,
            result.tag,
            log=request.output / "push.log",
            timeout_seconds=settings.transfer_timeout_seconds,
        )
    return result


def _factory(settings: BuildSettings) -> BuilderFactory:
    from pratique.release.build.buildah import BuildahBuilder
    from pratique.release.build.buildkit import BuildKitBuilder

    if settings.builder == "buildkit":
        return BuildKitBuilder
    return lambda storage, log: BuildahBuilder(storage, log, driver=settings.storage_driver)


def _show_plan(request: BuildRequest, settings: BuildSettings, *, as_json: bool) -> None:
    from tempfile import TemporaryDirectory

    from pratique.release.build.pipeline import plan_image

    with TemporaryDirectory(prefix="pratique-plan-") as work:
        plan = plan_image(request, settings, Path(work) / "context")
    if as_json:
        facts = {"schema_version": 1, "commit": plan.source.commit, "tag": plan.source.revision, "bases": plan.images}
        print(msgspec.json.encode(facts).decode())
    _say(f"would build {plan.source.revision} on {', '.join(plan.images) or 'nothing'}; the rules are kept")


def _show_built(result: BuildResult, push: str | None, *, as_json: bool) -> None:
    if as_json:
        _print_json(result.record)
        return
    where = f"{push}:{result.tag}" if push else str(result.image.folder)
    print(f"{result.image.digest}  {_size(result.image.layers)}, {where}")


def _size(layers: Any) -> str:  # noqa: ANN401 - Layer, whose module is imported where it is used
    return f"{sum(layer.size_bytes for layer in layers) / 1e6:.1f} MB"


def _print_json(value: object) -> None:
    print(msgspec.json.encode(value).decode())


def _pairs(given: list[str] | None, flag: str) -> dict[str, str]:
    found = {}
    for one in given or ():
        name, sign, value = one.partition("=")
        if not sign or not name:
            raise CallerError(f"{flag} {one}: expected NAME=VALUE.")
        found[name] = value
    return found


def _folders(given: list[str] | None, flag: str) -> dict[str, Path]:
    found = {name: Path(value).resolve() for name, value in _pairs(given, flag).items()}
    for name, path in found.items():
        if not path.exists():
            raise CallerError(f"{flag} {name}: {path} does not exist.")
    return found


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
