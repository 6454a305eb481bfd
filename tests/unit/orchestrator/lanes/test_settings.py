"""Lane settings held against each other."""

from __future__ import annotations

from typing import Any

import pytest

from pratique.core.settings import SettingsError
from pratique.orchestrator.lanes.settings import LambdaSettings, LaneSettings, check_lanes

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "wrong",
    [
        {"return_depth": 64, "spill_depth": 64},
        {"return_cpu_share": 0.9},
        {"return_latency_seconds": 6.0},
        {"kind": "lambda"},
        {"kind": "workers", "burst_head_seconds": 6.0},
    ],
)
def test_contradiction_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"orchestrator\.lanes"):
        check_lanes(LaneSettings(**wrong), first_token_timeout_seconds=6.0)


def test_defaults_and_a_named_function_hold() -> None:
    check_lanes(LaneSettings(), first_token_timeout_seconds=1.0)
    check_lanes(LaneSettings(kind="lambda", aws=LambdaSettings(function="burst")), first_token_timeout_seconds=6.0)
