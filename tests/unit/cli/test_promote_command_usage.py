"""`pratique promote` and `pratique rollback`: what is wrong usage, and what is looked at without doing it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.release.promotion.rollout_parts import REPOSITORY, A, B, C, World
from typer.testing import CliRunner

from pratique.cli import promote as command
from pratique.cli.main import app
from pratique.release.promotion.alerts import LedgerAlerts, LogAlerts, WebhookAlerts
from pratique.release.promotion.desk import Outcome
from pratique.release.promotion.settings import PromotionSettings

pytestmark = pytest.mark.unit


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stderr


@pytest.mark.parametrize(
    "arguments",
    [(), (A,), (A, "--resume", "--repository", REPOSITORY)],
    ids=["nothing", "no repository", "a digest to resume"],
)
def test_a_promotion_is_of_a_digest_in_a_repository_or_resumed(arguments: tuple[str, ...]) -> None:
    code, err = run("promote", *arguments)
    assert code == 2
    assert "expected a digest and --repository, or --resume alone" in err


def test_an_environment_without_a_target_is_wrong_usage(tmp_path: Path) -> None:
    code, err = run("promote", A, "--repository", REPOSITORY, "--environment", "moon")
    assert code == 2
    assert "there is no target for 'moon'" in err


def test_a_rollback_without_a_reason_is_wrong_usage() -> None:
    assert run("rollback")[0] == 2


def test_an_emergency_has_a_shorter_canary_and_never_none() -> None:
    settings = PromotionSettings()
    assert command._seconds(settings, emergency=False) == 900
    assert command._seconds(settings, emergency=True) == 300


def test_alerts_go_to_the_log_the_ledger_and_the_webhook_where_there_is_one() -> None:
    world = World()
    assert [type(one) for one in command._alerts(PromotionSettings(), world.ledger, "x")] == [LogAlerts, LedgerAlerts]
    hooked = PromotionSettings(webhook="http://127.0.0.1:1/")
    assert isinstance(command._alerts(hooked, world.ledger, "x")[-1], WebhookAlerts)


def test_a_dry_run_asks_the_gate_and_moves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    world.released(A)
    command._say_promotion(world.desk(), B, REPOSITORY, seconds=300)
    err = capsys.readouterr().err
    assert f"'production' runs {A}" in err
    assert f"the gate admits {B}: would run it with 5.0% of the traffic for 300 s" in err
    assert world.target.calls == []
    command._say_promotion(world.desk(), None, "", seconds=300)
    assert world.gate.asked == [f"admit {B}"]


def test_what_is_printed_is_one_line_and_notes_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    outcome = Outcome("rolled_back", command._subject(C, REPOSITORY), A, 1.25, (f"{B} is passed over: revoked",))
    command._print(world.desk(), outcome, as_json=False)
    shown = capsys.readouterr()
    assert shown.out == f"rolled_back: 'production' runs {C} (1.2 s)\n"
    assert shown.err == f"{B} is passed over: revoked\n"
    command._print(world.desk(), outcome, as_json=True)
    assert '"result":"rolled_back"' in capsys.readouterr().out
