"""The page for operators names what there is: metrics, settings, log events."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import msgspec
import pytest

from pratique.core import metrics
from pratique.orchestrator.cache import CacheSettings
from pratique.orchestrator.settings import OrchestratorSettings

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
METRIC_ROOMS = ("cache", "conversations", "orchestrator")
PAGE = (ROOT / "docs" / "orchestrator" / "operations.md").read_text(encoding="utf-8")


def test_every_metric_in_a_rule_exists() -> None:
    for room in METRIC_ROOMS:
        importlib.import_module(f"pratique.core.catalogue.{room}")
    named = set(re.findall(r"pratique_(?:orchestrator|store|cache)_\w+", PAGE))
    known = {name.removesuffix("_total") for name in metrics.METRICS}
    assert named
    assert not {name for name in named if re.sub(r"_(total|bucket)$", "", name) not in known}


def test_every_setting_of_the_capacity_table_exists() -> None:
    table = PAGE.split("## Capacity")[1].split("## Upgrades")[0]
    named = {name for line in table.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line)}
    known = {field.name for kind in (OrchestratorSettings, CacheSettings) for field in msgspec.structs.fields(kind)}
    assert len(named) >= 8
    assert {name for name in named if name not in known} <= {"overloaded"}


def test_every_event_of_the_log_table_is_logged_somewhere() -> None:
    table = PAGE.split("## What the logs say")[1].split("## Capacity")[0]
    source = "".join(file.read_text("utf-8") for file in (ROOT / "src" / "pratique" / "orchestrator").rglob("*.py"))
    firsts = [line.split("|")[1].split("(")[0] for line in table.splitlines() if line.startswith("| `")]
    named = {name for cell in firsts for name in re.findall(r"`(\w+)`", cell)}
    assert len(named) >= 15
    assert not {name for name in named if f'"{name}"' not in source}
