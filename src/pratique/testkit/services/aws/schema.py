"""A table in few words: `key="pk: S"`, `sort="created: N"`, `indexes={"by_status": "status, created: N"}`. No I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from pratique.testkit.errors import TestkitUsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["table_definition"]

_ATTRIBUTE: Final = re.compile(r"\s*([^\s:,]{1,255})\s*(?::\s*([SNB])\s*)?")


def table_definition(key: str, sort: str | None, indexes: Mapping[str, str]) -> dict[str, Any]:
    """Return CreateTable's parameters but the name.

    Raises:
        TestkitUsageError: a word means nothing, or an attribute has two types.
    """
    types: dict[str, str] = {}
    definition: dict[str, Any] = {
        "KeySchema": _read_keys([key] if sort is None else [key, sort], types),
        "BillingMode": "PAY_PER_REQUEST",
    }
    if indexes:
        definition["GlobalSecondaryIndexes"] = [
            {
                "IndexName": name,
                "KeySchema": _read_keys(words.split(","), types),
                "Projection": {"ProjectionType": "ALL"},
            }
            for name, words in indexes.items()
        ]
    definition["AttributeDefinitions"] = [
        {"AttributeName": name, "AttributeType": kind} for name, kind in types.items()
    ]
    return definition


def _read_keys(words: list[str], types: dict[str, str]) -> list[dict[str, str]]:
    if len(words) > 2:  # noqa: PLR2004 - a partition key and a sort key
        raise TestkitUsageError(
            f"An index has a partition key and at most one sort key; got {len(words)}: '{','.join(words)}'."
        )
    return [
        {"AttributeName": _read_attribute(word, types), "KeyType": role}
        for word, role in zip(words, ("HASH", "RANGE"), strict=False)
    ]


def _read_attribute(word: str, types: dict[str, str]) -> str:
    match = _ATTRIBUTE.fullmatch(word)
    if match is None:
        raise TestkitUsageError(
            f"'{word}' is no key attribute.",
            hint="Expected a name, or a name and a type: 'id', 'id: S', 'id: N', 'id: B'.",
        )
    name, given = match.groups()
    known = types.get(name)
    kind: str = given or known or "S"
    if known is not None and known != kind:
        raise TestkitUsageError(f"The attribute '{name}' is declared with two types, {known} and {kind}.")
    types[name] = kind
    return str(name)
