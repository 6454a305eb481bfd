"""The image comes from the expected sources, by an expected builder, with parameters that are known. Pure.

Accepted are pairs of a signer and a builder: one builder's key says nothing for another. What was asked of the builder
from outside must all be known: an external parameter that nobody reviewed can change what is built.
Source: SLSA provenance v1, "Verifying artifacts".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from pratique.release.policy.decision import Reason, RuleResult
from pratique.release.policy.document import ProvenanceRule
from pratique.release.policy.patterns import matches
from pratique.release.policy.selection import Case, Query, Read, latest, measurements, reason, result
from pratique.release.predicates import PROVENANCE
from pratique.release.slsa import AUTHORS_ANNOTATION, Provenance, Resource
from pratique.release.values import Digest

__all__ = ["judge_provenance"]

_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def judge_provenance(case: Case, rule: ProvenanceRule) -> tuple[RuleResult, frozenset[str]]:
    """Judge the provenance that counts; and say who wrote the source, as the accepted builders have it."""
    query = Query(
        predicate_type=PROVENANCE,
        names=tuple(dict.fromkeys(builder.signer for builder in rule.builders)),
        kind=Provenance,
        what="provenance",
        mend="Build with a builder that the policy names, and attach what it says.",
    )
    read, reasons = measurements(case, query)
    counted = latest(read)
    found = [*reasons]
    for one in counted:
        found += [*_builder_problems(case, rule, one), *_source_problems(rule, one), *_parameter_problems(rule, one)]
    authors = frozenset(author.strip().casefold() for one in counted for author in _authors(rule, one.content))
    return result("provenance", found, (one.accepted for one in counted)), authors


def _builder_problems(case: Case, rule: ProvenanceRule, read: Read[Provenance]) -> Iterator[Reason]:
    builder, build_type = read.content.run_details.builder.id, read.content.build_definition.build_type
    is_accepted = any(
        case.document.accepts(one.signer, read.accepted.attestation.signer)
        and matches(one.builder, builder)
        and one.build_type == build_type
        for one in rule.builders
    )
    if not is_accepted:
        what = f"'{read.accepted.party}' signed for the builder '{builder}' with the build type '{build_type}'"
        yield _wrong(f"{what}, and the policy has no such pair", read.accepted.digest)


def _source_problems(rule: ProvenanceRule, read: Read[Provenance]) -> Iterator[Reason]:
    sources = [one for one in read.content.build_definition.resolved_dependencies if one.uri.startswith("git+")]
    digest = read.accepted.digest
    if not sources:
        yield _wrong("the provenance names no source: no resolved dependency begins with 'git+'", digest)
    for source in sources:
        if not _is_expected(rule, source):
            at = f" at {' or '.join(rule.refs)}" if rule.refs else ""
            what = f"the source '{source.uri}' is none of {', '.join(rule.repositories)}{at}"
            yield _wrong(what, digest)
        if not _COMMIT.fullmatch(source.digest.get("gitCommit", source.digest.get("sha1", ""))):
            yield _wrong(f"the source '{source.uri}' has no commit (digest.gitCommit)", digest)


def _is_expected(rule: ProvenanceRule, source: Resource) -> bool:
    """Whether a source is an expected repository, at an expected branch or tag."""
    for repository in rule.repositories:
        if source.uri == repository:
            return not rule.refs
        if source.uri.startswith(f"{repository}@"):
            ref = source.uri.removeprefix(f"{repository}@")
            return not rule.refs or any(matches(pattern, ref) for pattern in rule.refs)
    return False


def _parameter_problems(rule: ProvenanceRule, read: Read[Provenance]) -> Iterator[Reason]:
    digest = read.accepted.digest
    given: dict[str, list[str]] = {}
    for path, value in _leaves(read.content.build_definition.external_parameters):
        given.setdefault(path, []).append(value)
    accepted: Mapping[str, tuple[str, ...]] = {**rule.parameters, **rule.optional_parameters}
    for path, values in given.items():
        if path not in accepted:
            yield _wrong(f"the external parameter '{path}' is not known to the policy", digest)
            continue
        for value in values:
            if not any(matches(pattern, value) for pattern in accepted[path]):
                what = f"the external parameter '{path}' is '{value[:200]}', accepted is {', '.join(accepted[path])}"
                yield _wrong(what, digest)
    for path in rule.parameters:
        if path not in given:
            yield _wrong(f"the external parameter '{path}' is not there", digest)


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Flatten parameters: a dotted path for each value; the entries of a list share their list's.

    A dot inside a name is written as a backslash and a dot, so that no name can pass for a path.
    """
    if isinstance(value, dict) and (value or not path):
        for name, entry in value.items():
            step = name.replace("\\", "\\\\").replace(".", "\\.")
            yield from _leaves(entry, f"{path}.{step}" if path else step)
    elif isinstance(value, list) and value:
        for entry in value:
            yield from _leaves(entry, path)
    else:
        yield path, value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _authors(rule: ProvenanceRule, provenance: Provenance) -> Iterator[str]:
    for source in provenance.build_definition.resolved_dependencies:
        named = source.annotations.get(AUTHORS_ANNOTATION)
        if _is_expected(rule, source) and isinstance(named, list):
            yield from (name for name in named if isinstance(name, str) and name.strip())


def _wrong(what: str, digest: Digest) -> Reason:
    mend = "Build from a reviewed commit of the expected repository; a new origin needs a reviewed policy."
    return reason("wrong_origin", what, mend=mend, statement=digest)
