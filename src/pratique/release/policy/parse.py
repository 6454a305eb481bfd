"""Reads a policy: strict TOML in, a frozen value out, and every mistake named with its place. Pure.

A key that is not known is refused with the nearest that is, because a misspelt rule that is silently dropped is a gate
that stands open. What types cannot say is checked here too: that every named signer exists, that people are named one
by one, that no identity belongs to two of them.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec
import msgspec.inspect

from pratique.core.errors import CallerError
from pratique.release.decoding import MalformedError, convert_value, decode_toml
from pratique.release.policy.document import Document, Identity, Policy, ProvenanceRule, Rules, SignerEntry
from pratique.release.policy.patterns import is_exact, pattern_problem
from pratique.release.policy.people import person
from pratique.release.values import digest_of

__all__ = ["MAX_POLICY_BYTES", "PolicyError", "parse_policy"]

MAX_POLICY_BYTES: Final = 1024 * 1024


class PolicyError(CallerError):
    """The policy cannot be used: nothing is decided by it."""

    code = "invalid_policy"


def parse_policy(content: bytes, *, where: str = "promotion.toml") -> Policy:
    """Read a policy.

    Args:
        content: the file's bytes; their digest is the policy's.
        where: the file's name, for messages.

    Raises:
        PolicyError: it is no policy; the message says where.
    """
    try:
        table = decode_toml(content, max_bytes=MAX_POLICY_BYTES)
    except MalformedError as error:
        raise PolicyError(f"{where} cannot be read as TOML: {error}") from error
    _refuse_unknown(table, msgspec.inspect.type_info(Document), where)
    if not table.get("rules"):
        raise PolicyError(
            f"{where} has no rules: a gate without rules would let everything through",
            hint="Begin with [rules.signature], and see docs/release/policy.md.",
        )
    try:
        document = convert_value(table, Document)
    except MalformedError as error:
        raise PolicyError(f"{where} is wrong: {error}") from error
    problems = [*_problems(document)]
    if problems:
        raise PolicyError(f"{where} is wrong: " + "; ".join(problems))
    return Policy(document, digest_of(content))


def _refuse_unknown(value: object, kind: msgspec.inspect.Type, where: str, path: str = "") -> None:
    """Walk the tables along the types, and stop at the first key that is in none."""
    kind = _without_none(kind)
    if isinstance(kind, msgspec.inspect.DictType) and isinstance(value, dict):
        for key, entry in value.items():
            _refuse_unknown(entry, kind.value_type, where, f"{path}.{key}")
    elif isinstance(kind, msgspec.inspect.VarTupleType) and isinstance(value, list):
        for number, entry in enumerate(value):
            _refuse_unknown(entry, kind.item_type, where, f"{path}[{number}]")
    elif isinstance(kind, msgspec.inspect.StructType) and isinstance(value, dict):
        fields = {field.encode_name: field.type for field in kind.fields}
        for key, entry in value.items():
            if key not in fields:
                raise _unknown_key(f"{path}.{key}".removeprefix("."), key, tuple(fields), where)
            _refuse_unknown(entry, fields[key], where, f"{path}.{key}")


def _without_none(kind: msgspec.inspect.Type) -> msgspec.inspect.Type:
    if isinstance(kind, msgspec.inspect.UnionType):
        return next(one for one in kind.types if not isinstance(one, msgspec.inspect.NoneType))
    return kind


def _unknown_key(path: str, key: str, known: tuple[str, ...], where: str) -> PolicyError:
    near = difflib.get_close_matches(key, known, n=1)
    meant = f"Did you mean '{near[0]}'? " if near else ""
    return PolicyError(f"{where} has an unknown key '{path}'", hint=f"{meant}Known here: {', '.join(known)}.")


def _problems(document: Document) -> Iterator[str]:
    yield from _signer_problems(document.signers)
    yield from _name_problems(document)
    yield from _shared_addresses(document)
    yield from _environment_problems(document)
    yield from _rule_problems(document.rules)
    if (glass := document.break_glass) is not None and len(set(glass.signers)) < glass.count:
        yield f"break_glass: {glass.count} people of {len(set(glass.signers))}"
    for pattern in document.repositories:
        if problem := pattern_problem(pattern):
            yield f"repositories '{pattern}': {problem}"


def _signer_problems(signers: Mapping[str, SignerEntry]) -> Iterator[str]:
    for name, entry in signers.items():
        for identity in entry.identities:
            if problem := _identity_problem(identity):
                yield f"signers.{name}: {problem}"
    exact = Counter(identity for entry in signers.values() for identity in entry.identities)
    for identity, number in exact.items():
        if number > 1:
            yield f"the identity {identity.key or identity.subject} stands {number} times in signers: it is one party"


def _identity_problem(identity: Identity) -> str:
    if (identity.key is not None) == (identity.issuer is not None or identity.subject is not None):
        return "an identity is either a key, or an issuer and a subject"
    if identity.key is not None:
        return ""
    if not identity.issuer or not identity.subject:
        return "an issuer without a subject, or a subject without an issuer, would accept strangers"
    if not is_exact(identity.issuer):
        return f"the issuer '{identity.issuer}' must be exact"
    return pattern_problem(identity.subject)


def _name_problems(document: Document) -> Iterator[str]:
    for place, names in _machines(document.rules):
        yield from (f"{place}: there is no signer '{name}'" for name in names if name not in document.signers)
    for place, names in _people(document):
        for name in names:
            if (entry := document.signers.get(name)) is None:
                yield f"{place}: there is no signer '{name}'"
            elif problem := _person_problem(entry):
                yield f"{place}: '{name}' counts as a person, and {problem}"


def _machines(rules: Rules) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every place where what signs need not be a person."""
    yield "rules.signature.signers", rules.signature.signers
    for name in ("sbom", "vulnerabilities", "dependencies", "hygiene", "evaluation", "canary"):
        if (rule := getattr(rules, name)) is not None:
            yield f"rules.{name}.signers", rule.signers
    if rules.provenance is not None:
        yield "rules.provenance.builders", tuple(builder.signer for builder in rules.provenance.builders)
    if rules.vulnerabilities is not None:
        yield "rules.vulnerabilities.vex_authors", rules.vulnerabilities.vex_authors


def _people(document: Document) -> Iterator[tuple[str, tuple[str, ...]]]:
    rules = document.rules
    if rules.dependencies is not None:
        yield "rules.dependencies.reviewers", rules.dependencies.reviewers
    if rules.approvals is not None:
        yield "rules.approvals.signers", rules.approvals.signers
    if document.break_glass is not None:
        yield "break_glass.signers", document.break_glass.signers


def _person_problem(entry: SignerEntry) -> str:
    if any(identity.subject is not None and not is_exact(identity.subject) for identity in entry.identities):
        return "one pattern may stand for many people: name each"
    if not entry.emails and not any("@" in (identity.subject or "") for identity in entry.identities):
        return "has no emails: it could not be told whether they wrote what they approve"
    return ""


def _shared_addresses(document: Document) -> Iterator[str]:
    """Two parties who count as people and share an address may be one, who would then be counted twice."""
    owners: dict[str, set[str]] = {}
    for name in {name for _, names in _people(document) for name in names if name in document.signers}:
        entry = document.signers[name]
        subjects = [identity.subject for identity in entry.identities if identity.subject]
        for address in {person(one) for one in (*entry.emails, *subjects)}:
            owners.setdefault(address, set()).add(name)
    for address, names in sorted(owners.items()):
        if len(names) > 1:
            yield f"signers: '{address}' is of {' and of '.join(sorted(names))}: they would count as two people"


def _environment_problems(document: Document) -> Iterator[str]:
    if len(set(document.environments)) != len(document.environments) or "" in document.environments:
        yield "environments: each must have a name of its own"
    compares = document.rules.dependencies is not None or document.rules.canary is not None
    if compares and document.baseline not in document.environments:
        # A name that never has a release would make every release the first, which needs no comparison.
        yield f"baseline: there is no environment '{document.baseline}'"
    tables = {f"rules.{name}": getattr(document.rules, name) for name in Rules.__struct_fields__ if name != "signature"}
    for place, table in [*tables.items(), ("break_glass", document.break_glass)]:
        unknown = [one for one in (table.environments if table else ()) if one not in document.environments]
        if unknown:
            near = difflib.get_close_matches(unknown[0], document.environments, n=1)
            meant = f"; did you mean '{near[0]}'?" if near else ""
            yield f"{place}.environments: there is no environment '{unknown[0]}'{meant}"


def _rule_problems(rules: Rules) -> Iterator[str]:
    if rules.sbom is None and (rules.vulnerabilities or rules.dependencies):
        yield "rules.sbom is missing: a scan and a diff are judged by the SBOM that they were made from"
    if rules.provenance is not None:
        yield from _provenance_problems(rules.provenance)
    if rules.approvals is not None and len(set(rules.approvals.signers)) < rules.approvals.count:
        yield f"rules.approvals: {rules.approvals.count} approvals of {len(set(rules.approvals.signers))} people"
    if rules.evaluation is not None:
        for check in rules.evaluation.checks:
            if not math.isfinite(check.threshold):
                yield f"rules.evaluation.checks: the threshold of '{check.name}' must be a number"
        names = Counter(check.name for check in rules.evaluation.checks)
        yield from (f"rules.evaluation.checks: '{name}' stands twice" for name, number in names.items() if number > 1)


def _provenance_problems(rule: ProvenanceRule) -> Iterator[str]:
    patterns = [*(builder.builder for builder in rule.builders), *rule.refs]
    values = (*rule.parameters.values(), *rule.optional_parameters.values())
    # No value and any value are no patterns, and may be wanted all the same.
    patterns += [one for several in values for one in several if one not in {"", "*"}]
    yield from (f"rules.provenance '{one}': {problem}" for one in patterns if (problem := pattern_problem(one)))
    yield from (
        f"rules.provenance.repositories '{one}' must be exact" for one in rule.repositories if not is_exact(one)
    )
    both = set(rule.parameters) & set(rule.optional_parameters)
    yield from (f"rules.provenance: the parameter '{name}' is both required and optional" for name in sorted(both))
