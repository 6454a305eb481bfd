"""The orchestrator's settings and its listening socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pratique.core.settings import SettingsError, load_settings
from pratique.orchestrator.server import ListenError, bind
from pratique.orchestrator.settings import OrchestratorSettings, parse_status_urls, read_system_prompt

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


def test_file_environment_and_flags_in_that_order(tmp_path: Path) -> None:
    file = tmp_path / "pratique.toml"
    file.write_text('[orchestrator]\nport = 1\nmax_tokens = 2\nreplica = "a"\n[orchestrator.cache]\nl1_entries = 3\n')
    settings = load_settings(
        OrchestratorSettings,
        part="orchestrator",
        file=file,
        environment={"PRATIQUE_ORCHESTRATOR_MAX_TOKENS": "4", "PRATIQUE_ORCHESTRATOR_REPLICA": "b"},
        overrides={"replica": "c", "state_dir": str(tmp_path)},
    )
    assert (settings.port, settings.max_tokens, settings.replica, settings.cache.l1_entries) == (1, 4, "c", 3)
    assert settings.path_of(settings.database, "conversations.db") == tmp_path / "conversations.db"
    assert settings.path_of(tmp_path / "x", "conversations.db") == tmp_path / "x"
    assert OrchestratorSettings().path_of(None, "x") is None


@pytest.mark.parametrize("wrong", [{"port": -1}, {"lease_seconds": 0}, {"replica": "A B"}, {"nope": 1}])
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        load_settings(OrchestratorSettings, part="orchestrator", overrides=wrong)


def test_status_addresses() -> None:
    settings = OrchestratorSettings(inference_url="http://h:1/", inference_status_urls=("a=http://h:2/", "b=https://h"))
    assert parse_status_urls(settings) == (("a", "http://h:2"), ("b", "https://h"))
    assert parse_status_urls(OrchestratorSettings(inference_url="http://h:1/")) == (("inference", "http://h:1"),)
    for wrong in ("http://h", "=http://h", "a=ftp://h", "a="):
        with pytest.raises(SettingsError):
            parse_status_urls(OrchestratorSettings(inference_status_urls=(wrong,)))


def test_system_prompt_from_its_file_or_from_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text(" be kind \n", encoding="utf-8")
    assert read_system_prompt(OrchestratorSettings(system_prompt_file=file)) == "be kind"
    assert read_system_prompt(OrchestratorSettings(system_prompt="short")) == "short"
    with pytest.raises(SettingsError, match="both"):
        read_system_prompt(OrchestratorSettings(system_prompt="a", system_prompt_file=file))
    with pytest.raises(SettingsError, match="cannot be read"):
        read_system_prompt(OrchestratorSettings(system_prompt_file=tmp_path / "nowhere"))


@pytest.mark.allow_hosts("no.such.host.invalid")
def test_port_that_is_taken_says_so() -> None:
    with bind("127.0.0.1", 0) as taken, pytest.raises(ListenError, match="in use"):
        bind("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(ListenError):
        bind("no.such.host.invalid", 0)
