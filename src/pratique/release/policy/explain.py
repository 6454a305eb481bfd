"""What a decision looks like to people, and the JSON schema of what programs read. Pure.

Whatever came from outside is printed without control characters: evidence by strangers stands in reasons, and must not
write on somebody's terminal.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Final

import msgspec

from pratique.release.plain import plain
from pratique.release.policy.decision import Decision, Outcome, RuleResult, Verdict
from pratique.release.policy.document import Document, Policy

__all__ = ["decision_schema", "explain", "explain_policy"]

_WORDS: Final[dict[Verdict, str]] = {"allow": "ALLOW", "block": "BLOCK", "undecided": "COULD NOT DECIDE"}
_MARKS: Final[dict[Outcome, str]] = {"pass": "pass", "fail": "FAIL", "undecided": "????", "waived": "WAIVED"}
_SHOWN: Final = 10
"""So many reasons in a row with the same mend are written out; the JSON has all."""


def explain(decision: Decision) -> str:
    """Write a decision in lines for a terminal."""
    return "\n".join(map(plain, _lines(decision)))


def _lines(decision: Decision) -> Iterator[str]:
    yield f"{_WORDS[decision.verdict]} {decision.repository}@{decision.digest} for {decision.environment}"
    if (use := decision.break_glass) is not None:
        yield f"BREAK-GLASS by {' and '.join(use.people)}, until {use.expires_at.isoformat()}"
        yield from (f"  {name} says: {why}" for name, why in zip(use.people, use.reasons, strict=True))
        yield f"  in spite of: {', '.join(use.waived)}"
    for result in decision.rules:
        yield from _rule_lines(result)
    yield f"policy {decision.policy}, decided at {decision.decided_at.isoformat()}"


def _rule_lines(result: RuleResult) -> Iterator[str]:
    by = ", ".join(dict.fromkeys(one.party for one in result.evidence))
    yield f"  {_MARKS[result.outcome]:<7}{result.rule}" + (f" (by {by})" if by else "")
    for mend, reasons in groupby(result.reasons, key=lambda why: why.mend):
        messages = [why.message for why in reasons]
        yield from (f"         {message}" for message in messages[:_SHOWN])
        if len(messages) > _SHOWN:
            yield f"         … and {len(messages) - _SHOWN} more"
        yield f"         → {mend}"


def decision_schema() -> bytes:
    """Return the JSON schema of a decision, as it is kept in docs/release/decision.schema.json."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Decision of pratique's release gate",
        **msgspec.json.schema(Decision),
    }
    return msgspec.json.format(msgspec.json.encode(schema), indent=2) + b"\n"


def explain_policy(policy: Policy) -> str:
    """Write what a policy requires, defaults included."""
    return "\n".join(map(plain, _policy_lines(policy.document, policy.digest)))


def _policy_lines(document: Document, digest: str) -> Iterator[str]:
    yield f"policy {digest}"
    yield f"for {', '.join(document.repositories)} in {', '.join(document.environments)}"
    yield f"compared with what is in {document.baseline}"
    yield "signers"
    for name, entry in document.signers.items():
        for one in entry.identities:
            yield f"  {name}: " + (f"key {one.key}" if one.key else f"{one.subject} (by {one.issuer})")
    for name in document.rules.__struct_fields__:
        if (rule := getattr(document.rules, name)) is not None:
            yield f"rule {name}"
            yield from _members(rule)
    if document.break_glass is not None:
        yield "break-glass"
        yield from _members(document.break_glass)


def _members(table: msgspec.Struct) -> Iterator[str]:
    for name, value in msgspec.to_builtins(table).items():
        yield f"  {name} = {msgspec.json.encode(value).decode()}"
