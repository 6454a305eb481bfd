"""Judges a change of the approved file: what is new against what is known about it. Pure.

Every new file is judged by each rule. Three levels: `refused`; `undecided`, where what is needed to decide is not
known, which does not pass either; `note`, which a reviewer should read. What is no longer approved is a note.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

import msgspec

from pratique.release.advisories.matching import Match
from pratique.release.mirror.approved import Approved, ApprovedFile, ApprovedPackage, ApprovedVersion
from pratique.release.mirror.facts import Facts, ProjectFacts
from pratique.release.mirror.licences import licence_fault, same_licence
from pratique.release.mirror.names import looks_like
from pratique.release.mirror.settings import MirrorSettings

__all__ = ["Finding", "Known", "judge_change", "new_files"]

Level = Literal["refused", "undecided", "note"]
Rule = Literal[
    "age", "approval", "exists", "hash", "licence", "maintainers", "removed", "typosquat", "vulnerable", "yanked"
]
_BLOCKING = frozenset({"critical", "high", "unknown"})


class Finding(msgspec.Struct, frozen=True):
    """What a rule says."""

    package: str
    version: str
    level: Level
    rule: Rule
    message: str


@dataclass(frozen=True, slots=True)
class Known:
    """What a change is judged by."""

    facts: Facts
    advisories: Callable[[str, str], tuple[Match, ...] | None]
    """What is known against a version; None: nothing is known about any package."""
    names: frozenset[str]
    """From locks, beside what was approved before or is named as popular."""
    now: datetime
    settings: MirrorSettings


def new_files(before: Approved, after: Approved) -> tuple[ApprovedFile, ...]:
    """Return the files that a change would allow."""
    old = {(file.filename, file.digest) for file in before.files()}
    return tuple(file for file in after.files() if (file.filename, file.digest) not in old)


def judge_change(before: Approved, after: Approved, known: Known) -> tuple[Finding, ...]:
    """Say what there is against a change."""
    fresh = new_files(before, after)
    found: list[Finding] = list(_replaced(before, fresh))
    for name in dict.fromkeys(file.package for file in fresh):
        package = after.packages[name]
        found += _about_package(before, after, package, known)
        for version in dict.fromkeys(file.version for file in fresh if file.package == name):
            files = [file for file in fresh if (file.package, file.version) == (name, version)]
            found += _about_version(package, package.versions[version], files, known, is_private=after.is_private(name))
    changed = [name for name, one in after.packages.items() if _is_relicensed(before.packages.get(name), one)]
    found += [one for name in changed for one in _licence(after.packages[name], "", "", known.settings)]
    found += _removed(before, after)
    return tuple(dict.fromkeys(found))


def _replaced(before: Approved, fresh: Iterable[ApprovedFile]) -> Iterator[Finding]:
    old = {file.filename: file.digest for file in before.files()}
    for file in fresh:
        if file.filename in old:
            text = f"{file.filename} was approved with another hash: a release never changes"
            yield Finding(file.package, file.version, "refused", "hash", text)


def _is_relicensed(before: ApprovedPackage | None, after: ApprovedPackage) -> bool:
    return before is not None and before.licence != after.licence


def _removed(before: Approved, after: Approved) -> Iterator[Finding]:
    kept = {file.filename for file in after.files()}
    for file in before.files():
        if file.filename not in kept:
            yield Finding(file.package, file.version, "note", "removed", f"{file.filename} is no longer served")
    for pattern in sorted(set(before.private) - set(after.private)):
        yield Finding(
            pattern, "", "refused", "removed", "is no longer ours: the upstream could then give us files for it"
        )


def _about_package(before: Approved, after: Approved, package: ApprovedPackage, known: Known) -> Iterator[Finding]:
    today: date = known.now.date()
    if package.approved_on > today + timedelta(days=1):  # somebody else's midnight
        text = f"approved on {package.approved_on}, which is yet to come"
        yield Finding(package.name, "", "refused", "approval", text)
    names = {*before.packages, *before.popular, *after.popular, *known.names, *before.private, *after.private}
    plain = {name for name in names if "*" not in name} - {package.name, *package.similar_to}
    like = looks_like(package.name, plain) if package.name not in before.packages else None
    if like is not None and not after.is_private(package.name):
        text = f'looks like {like}: if it is meant, say similar_to = ["{like}"]'
        yield Finding(package.name, "", "refused", "typosquat", text)


def _about_version(
    package: ApprovedPackage,
    version: ApprovedVersion,
    files: list[ApprovedFile],
    known: Known,
    *,
    is_private: bool,
) -> Iterator[Finding]:
    name, number = package.name, version.version
    project = known.facts.projects.get(name)
    stated = project.licences.get(number, "") if project is not None else ""
    yield from _licence(package, number, stated, known.settings)
    yield from _vulnerable(name, number, known)
    if is_private:
        if project is not None:
            text = "is a name of ours, and somebody has it upstream: it is never taken from there"
            yield Finding(name, number, "note", "exists", text)
    elif name not in known.facts.projects:
        yield Finding(name, number, "undecided", "exists", "nothing is known about the project")
    elif project is None:
        yield Finding(name, number, "refused", "exists", "there is no such project upstream")
    else:
        yield from _offered(number, files, project, known)


def _offered(version: str, files: list[ApprovedFile], project: ProjectFacts, known: Known) -> Iterator[Finding]:
    name = files[0].package
    for file in files:
        offer = project.files.get(file.filename)
        if offer is None:
            yield Finding(name, version, "refused", "exists", f"{file.filename} is not offered upstream")
            continue
        if f"sha256:{offer.sha256.lower()}" != file.digest:
            text = f"{file.filename} is sha256:{offer.sha256} upstream, not {file.digest}"
            yield Finding(name, version, "refused", "hash", text)
        if offer.yanked is not None:
            text = f"{file.filename} was taken back upstream: {offer.yanked or 'without a reason'}"
            yield Finding(name, version, "refused", "yanked", text)
        if not offer.has_provenance:
            text = f"{file.filename}: the index has no attestation of who published it"
            yield Finding(name, version, "note", "maintainers", text)
        yield from _age(file, offer.uploaded_at, known)
    first, limit = project.first_uploaded_at, timedelta(days=known.settings.min_project_age_days)
    if first is not None and known.now - first < limit:
        text = f"the project is new: its first file is of {first.date()}, {project.num_versions} versions since"
        yield Finding(name, version, "note", "maintainers", text)


def _age(file: ApprovedFile, uploaded_at: datetime | None, known: Known) -> Iterator[Finding]:
    if uploaded_at is None:
        text = f"{file.filename}: the index does not say when it was uploaded"
        yield Finding(file.package, file.version, "undecided", "age", text)
        return
    limit = timedelta(days=known.settings.min_age_days)
    if known.now - uploaded_at < limit:
        text = f"{file.filename} was uploaded on {uploaded_at.date()}: expected {known.settings.min_age_days:g} days"
        yield Finding(file.package, file.version, "refused", "age", f"{text} or more")


def _licence(package: ApprovedPackage, version: str, stated: str, settings: MirrorSettings) -> Iterator[Finding]:
    fault = licence_fault(package.licence, settings.licences)
    if fault is not None:
        yield Finding(package.name, version, "refused", "licence", fault)
    if not version:
        return
    same = same_licence(package.licence, stated)
    if same is False:
        text = f"approved as '{package.licence}', the project says '{stated}'"
        yield Finding(package.name, version, "refused", "licence", text)
    elif same is None:
        text = f"the project states no SPDX expression ('{stated[:100]}'): look whether it is {package.licence}"
        yield Finding(package.name, version, "note", "licence", text)


def _vulnerable(name: str, version: str, known: Known) -> Iterator[Finding]:
    matches = known.advisories(name, version)
    if matches is None:
        text = "there are no advisories about Python packages here: pratique advisories import"
        yield Finding(name, version, "undecided", "vulnerable", text)
        return
    for match in matches:
        severity = match.advisory.severity
        level: Level = "refused" if severity in _BLOCKING else "note"
        text = f"{match.advisory.id} ({severity}, {match.judgement.verdict}): {match.advisory.summary[:100]}"
        yield Finding(name, version, level, "vulnerable", text)
