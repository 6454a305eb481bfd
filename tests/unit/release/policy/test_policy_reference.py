"""docs/release/policy.md names every rule, key, default, reason and exit code that there is."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pratique.release.policy import document
from pratique.release.policy.decision import EXIT_CODES, Code, RuleName

pytestmark = pytest.mark.unit

PAGE = (Path(__file__).resolve().parents[4] / "docs" / "release" / "policy.md").read_text(encoding="utf-8")
RULES: dict[str, Any] = {
    f"[rules.{field.name}]": next(one for one in typing.get_args(field.type) or (field.type,) if one is not type(None))
    for field in msgspec.structs.fields(document.Rules)
}
TABLES: dict[str, Any] = {
    **RULES,
    "[[rules.provenance.builders]]": document.Builder,
    "[[rules.evaluation.checks]]": document.CheckRule,
    "[break_glass]": document.BreakGlass,
    "[signers.NAME]": document.SignerEntry,
}


def rows(heading: str) -> dict[str, list[str]]:
    """The rows of the first table below a heading, by what stands in backticks in the first cell."""
    section = PAGE.split(f"\n{heading}\n", 1)[1].split("\n#", 1)[0]
    found = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return {re.findall(r"`([^`]+)`", cells[0])[0]: cells[1:] for cells in found}


def keys(cell: str) -> set[str]:
    """What stands in backticks, but for what is said in brackets behind it."""
    return set(re.findall(r"`([a-z_]+)`", re.sub(r"\([^()]*(?:\([^()]*\)[^()]*)*\)", "", cell)))


def fields(kind: Any) -> Iterator[msgspec.structs.FieldInfo]:
    return (one for one in msgspec.structs.fields(kind) if one.name != "environments" or kind is document.BreakGlass)


@pytest.mark.parametrize("table", TABLES)
def test_the_keys_of_a_table_are_those_of_its_type_and_defaults_are_optional(table: str) -> None:
    must, may = (keys(cell) for cell in rows("### Their keys")[table][:2])
    assert must == {one.name for one in fields(TABLES[table]) if one.required}
    assert may == {one.name for one in fields(TABLES[table]) if not one.required}


@pytest.mark.parametrize("table", TABLES)
def test_numbers_that_are_defaults_are_the_right_ones(table: str) -> None:
    said = dict(re.findall(r"`(\w+)` \(([\d.]+)", rows("### Their keys")[table][1]))
    numbers = {one.name: one.default for one in fields(TABLES[table]) if isinstance(one.default, int | float)}
    assert {name: float(text) for name, text in said.items()} == numbers


def test_every_rule_is_named_and_no_other() -> None:
    configured = {name for name in rows("## Rules") if not name.startswith("http") and name != "urn"}
    always = set(re.findall(r"`(\w+)`: ", PAGE.split("Three more always hold.", 1)[1].split("\n\n", 1)[0]))
    assert configured | always == set(typing.get_args(RuleName))
    assert {f"[rules.{name}]" for name in configured} == set(RULES)


def test_every_reason_is_named_and_no_other() -> None:
    assert set(rows("## Reasons")) == set(typing.get_args(Code))


def test_every_exit_code_of_the_gate_is_named() -> None:
    said = re.findall(r"^\| (\d) \| `(\w+)`", PAGE, flags=re.MULTILINE)
    assert {verdict: int(code) for code, verdict in said} == EXIT_CODES
