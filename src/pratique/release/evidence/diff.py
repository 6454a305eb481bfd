"""How the components of two images differ: new, removed, another version, another licence.

Components are compared by their package URL without version. Licences are compared as SPDX expressions in a normal
form, so that another spelling of the same is no change.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from pratique.release.components import Component, read_components
from pratique.release.errors import EvidenceError
from pratique.release.evidence.interface import Image, Predicate
from pratique.release.evidence.vulnerabilities import require_sbom
from pratique.release.predicates import DEPENDENCY_DIFF, SBOM, Change, DependencyDiff, DependencyReview
from pratique.release.statements import Statement
from pratique.release.values import Digest

if TYPE_CHECKING:
    from license_expression import Licensing

__all__ = ["DiffCollector", "compare", "normal_licence", "review_of"]

_MAX_LICENCE: Final = 2_000


class DiffCollector:
    """Compares an image with the one in production."""

    name = "dependencies"

    def __init__(self, sbom: Statement, baseline: Digest | None, baseline_sbom: Statement | None) -> None:
        self._sbom = sbom
        self._baseline = baseline
        self._baseline_sbom = baseline_sbom

    def collect(self, image: Image) -> Predicate:
        """Compare the bills of materials.

        Raises:
            EvidenceError: one of them is none, or is about another image; or the baseline has none.
        """
        require_sbom(self._sbom, image)
        before: tuple[Component, ...] = ()
        if self._baseline is not None:
            before = read_components(self._of_baseline(self._baseline).predicate)
        content = DependencyDiff(
            baseline=self._baseline,
            baseline_sbom=self._baseline_sbom.digest if self._baseline_sbom else None,
            sbom=self._sbom.digest,
            changes=tuple(compare(before, read_components(self._sbom.predicate))),
        )
        return Predicate(DEPENDENCY_DIFF, content, (self._sbom.digest,))

    def _of_baseline(self, baseline: Digest) -> Statement:
        found = self._baseline_sbom
        if found is None or found.predicate_type != SBOM or baseline not in found.subjects:
            about = "none" if found is None else f"'{found.predicate_type}' about {', '.join(found.subjects)}"
            raise EvidenceError(f"expected the bill of materials of the baseline {baseline}, got {about}")
        return found


def compare(before: Iterable[Component], after: Iterable[Component]) -> Iterator[Change]:
    """Say what changed, in the order of the packages. Pure."""
    old, new = _by_package(before), _by_package(after)
    for package in sorted(old.keys() | new.keys()):
        was, now = _Held(old.get(package, ())), _Held(new.get(package, ()))
        if (was.versions, was.licences) != (now.versions, now.licences):
            yield Change(
                package=package,
                before=was.versions,
                after=now.versions,
                licences_before=was.licences,
                licences_after=now.licences,
            )


class _Held:
    """What an image has of one package: usually one version, sometimes several."""

    def __init__(self, components: Iterable[Component]) -> None:
        components = tuple(components)
        versions = sorted({one.purl.version for one in components})
        self.versions = ", ".join(versions) if components else None
        self.licences = tuple(sorted({normal_licence(text) for one in components for text in one.licences}))


def _by_package(components: Iterable[Component]) -> dict[str, list[Component]]:
    found: dict[str, list[Component]] = {}
    for one in components:
        found.setdefault(one.purl.package, []).append(one)
    return found


@functools.lru_cache(maxsize=4096)
def normal_licence(text: str) -> str:
    """Return an SPDX expression in its normal form; what is none stays as it is, without spaces around it."""
    from license_expression import ExpressionError

    text = " ".join(text.split())
    if len(text) > _MAX_LICENCE:
        return text
    try:
        parsed = _licensing().parse(text, validate=True)
    except ExpressionError:
        return text
    return text if parsed is None else parsed.simplify().render("{symbol.key}")


@functools.cache
def _licensing() -> Licensing:
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()  # reads a list of a thousand licences


def review_of(diff: Statement, accepted: tuple[str, ...], reason: str) -> DependencyReview:
    """Return a review of a diff, that accepts some of its changes.

    Raises:
        EvidenceError: the statement is no diff, or something is accepted that is not in it, or no reason is given.
    """
    if diff.predicate_type != DEPENDENCY_DIFF:
        raise EvidenceError(f"expected a dependency diff, got a statement of type '{diff.predicate_type}'")
    changed = {change.package for change in diff.read(DependencyDiff).changes}
    strange = [package for package in accepted if package not in changed]
    if strange:
        raise EvidenceError(f"the diff has no change of {', '.join(strange)}", hint="pratique evidence show FILE")
    if not reason.strip():
        raise EvidenceError("a review needs a reason: it is read by who wonders later")
    return DependencyReview(diff=diff.digest, accepted=tuple(sorted(set(accepted))), reason=reason)
