"""`pratique model push | pull | evidence | admit | provenance`: models as release artifacts. Parse, call, render."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from pratique.cli._signing import Config, DryRun, ImageDigest, Json, Repository, open_registry, release_settings
from pratique.core.errors import CallerError

if TYPE_CHECKING:
    from pratique.release.models.evidence import Evidence
    from pratique.release.registry.interface import Registry
    from pratique.release.settings import ReleaseSettings
    from pratique.release.values import Subject

__all__ = ["admit", "evidence", "provenance", "pull", "push"]

_Folder = Annotated[Path, typer.Argument(help="An imported model's or adapter's folder.")]
_Evidence = Annotated[Path | None, typer.Option(help="Where the evidence is kept. [NAME.evidence beside the folder]")]


def push(
    folder: _Folder,
    repository: Repository,
    tag: Annotated[str, typer.Option(help="Its tag there. [none: it lies under its digest]")] = "",
    base: Annotated[str | None, typer.Option(help="Of an adapter: the digest of its model's artifact.")] = None,
    config: Config = None,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Verify an imported model or adapter, and push it as a release artifact. Prints its digest.

    With --dry-run the artifact's manifest is printed, and nothing is sent.
    """
    from pratique.cli._models import artifact_of
    from pratique.inference.artifacts.manifest import verify
    from pratique.release.models.artifact import write_artifact
    from pratique.release.models.store import push_model
    from pratique.release.values import parse_digest

    digest = None if base is None else parse_digest(base)
    artifact = artifact_of(verify(folder), folder, base=digest)
    written = write_artifact(artifact)
    if dry_run:
        size = artifact.size_bytes / 1e6
        print(
            f"would push {len(artifact.files)} files, {size:.0f} MB, as {repository}@{written.digest}", file=sys.stderr
        )
        print(written.manifest.decode())
        return
    pushed = push_model(open_registry(release_settings(config)), repository, artifact, folder=folder, tag=tag)
    told = {"digest": pushed, "kind": artifact.kind, "files": len(artifact.files), "size_bytes": artifact.size_bytes}
    print(_json(**told) if as_json else pushed)


def pull(
    digest: ImageDigest,
    repository: Repository,
    into: Annotated[Path, typer.Option(help="The folder that is made. Nothing may be there.")],
    evidence: _Evidence = None,
    config: Config = None,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Pull a model or adapter by its digest, verify every file, and lay its signatures and decisions beside it."""
    from pratique.inference.artifacts.manifest import check_layout
    from pratique.release.models.admitting import evidence_beside
    from pratique.release.models.artifact import read_artifact
    from pratique.release.models.evidence import require_about, save_evidence
    from pratique.release.models.store import pull_model

    subject, settings = _subject(repository, digest), release_settings(config)
    registry = open_registry(settings)
    if dry_run:
        artifact = read_artifact(registry.manifest(subject.repository, subject.digest).content)
        size = artifact.size_bytes / 1e6
        print(f"would pull the {artifact.kind} {artifact.name!r}, {size:.0f} MB, into {into}", file=sys.stderr)
        return
    found, beside = _fetch(registry, settings, subject), evidence or evidence_beside(into)
    require_about(beside, found)  # before anything large is fetched
    artifact = pull_model(registry, subject, into, check=check_layout)
    save_evidence(beside, found)
    told = {"folder": str(into), "kind": artifact.kind, "evidence": str(beside), "bundles": len(found.bundles)}
    print(_json(**told) if as_json else into)


def evidence(
    digest: ImageDigest,
    repository: Repository,
    beside: Annotated[Path, typer.Option(help="The folder of the model that was pulled.")],
    evidence: _Evidence = None,
    config: Config = None,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Fetch a model's signatures and decisions anew, and lay them beside it: what is there already stays."""
    from pratique.release.models.admitting import evidence_beside
    from pratique.release.models.evidence import save_evidence

    subject, settings = _subject(repository, digest), release_settings(config)
    found, kept = _fetch(open_registry(settings), settings, subject), evidence or evidence_beside(beside)
    if dry_run:
        print(f"would lay {len(found.bundles)} bundles beside {beside}", file=sys.stderr)
        return
    save_evidence(kept, found)
    print(_json(evidence=str(kept), bundles=len(found.bundles)) if as_json else kept)


def admit(
    folder: _Folder,
    adapter: Annotated[list[Path] | None, typer.Option(help="An adapter's folder. May be repeated.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with a table \\[inference.artifact].")] = None,
    as_json: Json = False,
) -> None:
    """Ask what a model server would that requires released artifacts, and compare every file. Offline.

    Exit code 0: it would be loaded; 1: it would not; 3: it cannot be read.
    """
    import os

    from pratique.cli._models import open_admission
    from pratique.core.settings import load_settings
    from pratique.inference.errors import UnreleasedArtifactError, UnsafeWeightsError
    from pratique.inference.model_files import ModelFiles
    from pratique.inference.settings import InferenceSettings

    settings = load_settings(InferenceSettings, part="inference", file=config, environment=os.environ)
    files = ModelFiles(folder, adapters=adapter or (), admit=open_admission(settings.artifact))
    try:
        files.check()
        files.verify(lambda _share: None)
        files.confirm()
    except (UnreleasedArtifactError, UnsafeWeightsError) as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        if as_json:
            print(_json(verdict="refused", code=error.code, reason=error.message))
        raise typer.Exit(1) from error
    for one in files.released():
        print(_json(verdict="admitted", **one) if as_json else f"{one['folder']}: {one['digest']}, {one['signer']}")


def provenance(
    source: Annotated[str, typer.Option(help="Where the code is that trained it, a URL.")],
    commit: Annotated[str, typer.Option(help="Which commit of it.")],
    builder: Annotated[str, typer.Option(help="Who ran the training, a URI.")],
    ref: Annotated[str, typer.Option(help="The branch or tag, for example refs/tags/v1.")] = "",
    author: Annotated[list[str] | None, typer.Option(help="E-mail address of who wrote it. May be repeated.")] = None,
    base: Annotated[str | None, typer.Option(help="The digest of the model that it began from.")] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="Data that it was trained on. May be repeated.", metavar="NAME=DIGEST")
    ] = None,
    parameter: Annotated[
        list[str] | None, typer.Option(help="What else was asked for. May be repeated.", metavar="NAME=VALUE")
    ] = None,
) -> None:
    """Print a model's provenance (SLSA v1), for `pratique attest --type provenance`. Nothing of it is looked at."""
    from pratique.release.models.provenance import Training, provenance_of
    from pratique.release.values import parse_digest

    training = Training(
        repository=source,
        commit=commit,
        builder=builder,
        ref=ref,
        authors=tuple(author or ()),
        base=None if base is None else parse_digest(base),
        datasets={name: parse_digest(digest) for name, digest in _pairs(dataset or ())},
        parameters=dict(_pairs(parameter or ())),
    )
    print(msgspec.json.encode(provenance_of(training)).decode())


def _pairs(given: Sequence[str]) -> list[tuple[str, str]]:
    pairs = [(name, value) for name, _, value in (one.partition("=") for one in given)]
    for name, value in pairs:
        if not name or not value:
            raise CallerError(f"expected NAME=VALUE, got '{name}'")
    if len(dict(pairs)) < len(pairs):
        raise CallerError("a name was given twice")
    return pairs


def _subject(repository: str, digest: str) -> Subject:
    from pratique.release.values import Subject, parse_digest

    return Subject(repository, parse_digest(digest))


def _fetch(registry: Registry, settings: ReleaseSettings, subject: Subject) -> Evidence:
    from pratique.release.models.evidence import fetch_evidence
    from pratique.release.plain import plain
    from pratique.release.signing.build import open_verifier
    from pratique.release.signing.dossier import load_dossier

    dossier = load_dossier(registry, subject, open_verifier(settings.signing))
    for one in dossier.unverified:
        print(f"not verified: {plain(one.where)}: {plain(one.reason)}", file=sys.stderr)
    found = fetch_evidence(registry, subject, dossier)
    if not found.bundles:
        print(f"warning: no signature that holds lies beside {subject.digest}", file=sys.stderr)
    return found


def _json(**fields: object) -> str:
    return msgspec.json.encode({"schema_version": 1, **fields}).decode()
