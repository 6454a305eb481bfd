"""Judges a change of the approved file against a base: fetches what is needed, and leaves the verdict to `judging`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from pratique.core.errors import CallerError
from pratique.core.git import SAFE_OPTIONS
from pratique.release.advisories.database import AdvisoryDatabase
from pratique.release.advisories.errors import AdvisoryDatabaseError
from pratique.release.advisories.matching import Lookup, Match
from pratique.release.errors import ToolMissingError
from pratique.release.mirror.approved import Approved
from pratique.release.mirror.facts import Facts, gather, parse_facts
from pratique.release.mirror.judging import Finding, Known, judge_change, new_files
from pratique.release.mirror.settings import MirrorSettings
from pratique.release.mirror.shelf import known_names, load_approved, read_approved
from pratique.release.mirror.sources import HttpIndex

__all__ = ["CheckRequest", "CheckResult", "check_change"]

_GIT_SECONDS: Final = 30


class CheckRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to judge by."""

    base: str
    """A file, or a revision of Git; empty: nothing was approved."""
    facts: Path | None
    """None: the upstream is asked."""
    database: Path
    now: datetime


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    schema_version: int = 1
    verdict: Literal["allowed", "refused", "undecided"]
    num_new_files: int
    findings: tuple[Finding, ...]


def check_change(settings: MirrorSettings, request: CheckRequest) -> CheckResult:
    """Judge the approved file of the settings against its base.

    Raises:
        ApprovedFileError: one of both cannot be read.
        UpstreamError: the index does not answer.
        CallerError: there is no such base, or no such file of facts.
    """
    after = load_approved(settings.approved)
    before = _base(request.base, settings.approved)
    fresh = new_files(before, after)
    with ExitStack() as stack:
        known = Known(
            facts=_facts(request, settings, after, before),
            advisories=_advisories(request.database, stack),
            names=known_names(settings.locks),
            now=request.now,
            settings=settings,
        )
        findings = judge_change(before, after, known)
    levels = {one.level for one in findings}
    verdict: Literal["allowed", "refused", "undecided"] = (
        "refused" if "refused" in levels else "undecided" if "undecided" in levels else "allowed"
    )
    return CheckResult(verdict=verdict, num_new_files=len(fresh), findings=findings)


def _facts(request: CheckRequest, settings: MirrorSettings, after: Approved, before: Approved) -> Facts:
    if request.facts is None:
        return gather(new_files(before, after), HttpIndex(settings))
    try:
        return parse_facts(request.facts.read_bytes())
    except OSError as error:
        raise CallerError(f"the file of facts {request.facts} cannot be read: {error}") from error


def _advisories(path: Path, stack: ExitStack) -> Callable[[str, str], tuple[Match, ...] | None]:
    try:
        database = stack.enter_context(AdvisoryDatabase(path))
    except AdvisoryDatabaseError:  # then nothing can be decided, which is what None says
        return lambda _name, _version: None

    def matches(name: str, version: str) -> tuple[Match, ...] | None:
        lookup = Lookup(("PyPI",), name, version)
        return database.matches(lookup) if database.knows(lookup) else None

    return matches


def _base(base: str, approved: Path) -> Approved:
    if not base:
        return Approved()
    if Path(base).is_file():
        return load_approved(Path(base))
    if base.startswith("-"):
        raise CallerError(f"'{base}' is no file and no revision")
    words = ["git", *SAFE_OPTIONS, "-C", str(approved.resolve().parent), "show", f"{base}:./{approved.name}"]
    try:
        done = subprocess.run(words, capture_output=True, timeout=_GIT_SECONDS, check=False)  # noqa: S603 - no shell
    except FileNotFoundError as error:
        raise ToolMissingError("git is not installed", hint="apt-get install git, or give a file as --base") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()[:300]
        raise CallerError(f"there is no {approved.name} in '{base}': {said}", hint='A first file: --base ""')
    return read_approved(done.stdout)
