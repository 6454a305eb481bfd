"""What statements say, in lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from pratique.release import predicates as kinds
from pratique.release.plain import plain

if TYPE_CHECKING:
    from pratique.release.statements import Statement

__all__ = ["lines_of"]

_SHOWN: Final = 30
_ORDER: Final = ("critical", "unknown", "high", "medium", "low", "none")


def lines_of(statement: Statement) -> Iterator[str]:
    """Say in a few lines what a statement says, every character seen; nothing of kinds that are not known here.

    Raises:
        EvidenceError: it is of a known kind, and malformed.
    """
    view = _VIEWS.get(statement.predicate_type)
    if view is not None:
        yield from map(plain, view(statement))


def _sbom(statement: Statement) -> Iterator[str]:
    from pratique.release.components import read_components

    components = read_components(statement.predicate)
    counts = Counter(one.purl.type for one in components)
    yield f"{len(components)} components: {', '.join(f'{number} {kind}' for kind, number in sorted(counts.items()))}"


def _scan(statement: Statement) -> Iterator[str]:
    scan = statement.read(kinds.Scan)
    found = sorted(scan.result.vulnerabilities, key=lambda one: (_ORDER.index(one.severity), one.package, one.id))
    updated_at = scan.scanner.database_updated_at
    yield (
        f"{len(found)} vulnerabilities in {scan.result.num_components} components looked at, by {scan.scanner.uri},"
        f" data as of {updated_at.isoformat() if updated_at else 'an unknown time'}"
    )
    for one in found[:_SHOWN]:
        doubt = ", undetermined" if one.is_undetermined else ""
        fixed = f"; fixed in {', '.join(one.fixed_in)}" if one.fixed_in else ""
        yield f"{one.severity}{doubt}  {'/'.join((one.id, *one.aliases[:2]))}  {one.package}{fixed}"
    yield from _more(len(found))


def _diff(statement: Statement) -> Iterator[str]:
    diff = statement.read(kinds.DependencyDiff)
    yield f"{len(diff.changes)} changes against {diff.baseline or 'nothing in production'}"
    for one in diff.changes[:_SHOWN]:
        versions = f"{one.before or 'new'} → {one.after or 'removed'}"
        licences = ""
        if one.before and one.after and one.licences_before != one.licences_after:
            licences = f"; licence {_or(one.licences_before)} → {_or(one.licences_after)}"
        elif one.before is None:
            licences = f"; licence {_or(one.licences_after)}"
        yield f"{one.package}  {versions}{licences}"
    yield from _more(len(diff.changes))


def _or(licences: tuple[str, ...]) -> str:
    return ", ".join(licences) or "not known"


def _review(statement: Statement) -> Iterator[str]:
    review = statement.read(kinds.DependencyReview)
    yield f"accepts {len(review.accepted)} changes of {review.diff}: {review.reason}"
    yield from review.accepted


def _vex(statement: Statement) -> Iterator[str]:
    from pratique.release.openvex import expiry_of, read_document

    document = read_document(statement.predicate)
    yield f"{document.author} states:"
    for one in document.statements:
        why = one.justification or one.impact_statement or one.action_statement
        end = expiry_of(one)
        until = f", until {end.isoformat()}" if end else ""
        yield f"{one.vulnerability.name}: {one.status}{f' ({why})' if why else ''}{until}"


def _provenance(statement: Statement) -> Iterator[str]:
    from pratique.release.slsa import Provenance

    provenance = statement.read(Provenance)
    definition = provenance.build_definition
    yield f"built by {provenance.run_details.builder.id} as {definition.build_type}"
    for one in definition.resolved_dependencies:
        if one.uri:
            yield f"from {one.uri}"
    yield f"{len(definition.resolved_dependencies)} inputs, by digest"


def _hygiene(statement: Statement) -> Iterator[str]:
    found = statement.read(kinds.Hygiene)
    yield f"{len(found.findings)} findings of {len(found.checked)} rules, {found.wasted_bytes / 1e6:.1f} MB wasted"
    for one in found.findings[:_SHOWN]:
        yield f"{one.level}  {one.rule}  {one.where}  {one.message}"
    yield from _more(len(found.findings))


def _evaluation(statement: Statement) -> Iterator[str]:
    found = statement.read(kinds.Evaluation)
    yield f"the model '{found.model}', by the golden set {found.golden_set}"
    for one in found.checks:
        said = "passed" if one.passed else "failed"
        yield f"{said}  {one.name}  {one.value:g} of {one.num_samples}, at {one.at} {one.threshold:g}"


def _more(number: int) -> Iterator[str]:
    if number > _SHOWN:
        yield f"… and {number - _SHOWN} more: `pratique evidence show FILE --json` shows all"


_VIEWS: Final[dict[str, Callable[[Statement], Iterator[str]]]] = {
    kinds.SBOM: _sbom,
    kinds.VULNERABILITIES: _scan,
    kinds.DEPENDENCY_DIFF: _diff,
    kinds.DEPENDENCY_REVIEW: _review,
    kinds.VEX: _vex,
    kinds.PROVENANCE: _provenance,
    kinds.HYGIENE: _hygiene,
    kinds.EVALUATION: _evaluation,
}
