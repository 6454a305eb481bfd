"""The command line as a whole: help without imports, errors as text, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import typer
from typer.testing import CliRunner

from pratique.cli import main as command_line
from pratique.cli._lazy import LazyGroup, MissingPartError, Target
from pratique.core.errors import RefusedError

pytestmark = pytest.mark.unit
runner = CliRunner()


def refusing() -> None:
    """Refuse."""
    raise RefusedError("The harbour is closed.", hint="Wait for the tide.")


def broken() -> None:
    """Break."""
    raise ZeroDivisionError("division by zero")


def interrupted() -> None:
    """Stop."""
    raise KeyboardInterrupt


def late() -> None:
    """Count tokens."""
    raise ModuleNotFoundError("No module named 'transformers'", name="transformers")


group = typer.Typer()


@group.command()
def list_all(limit: int = 3) -> None:
    """List."""
    typer.echo(f"limit {limit}")


@group.command()
def other() -> None:
    """Be a second command."""


def target(attribute: str, module: str = __name__, extra: str = "") -> Target:
    return Target(help=f"{attribute} help", module=module, attribute=attribute, extra=extra)


TARGETS = {
    "refuse": target("refusing"),
    "break": target("broken"),
    "interrupt": target("interrupted"),
    "late": target("late", extra="inference"),
    "many": target("group"),
    "absent": target("x", module="pratique.no_such_part"),
    "bare": target("x", module="no_such_package", extra="fleet"),
}


@pytest.fixture(autouse=True)
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    monkeypatch.setattr(command_line._RootGroup, "targets", {**command_line._RootGroup.targets, **TARGETS})


def test_help_names_every_command_and_imports_none() -> None:
    source = (
        "import sys\n"
        "from pratique.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in sys.modules if m.startswith(('pratique.fleet', 'aiohttp', 'torch', 'starlette'))])"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.endswith("[]\n")
    for name in ("up", "down", "status", "logs", "chat", "serve", "model", "keys"):
        assert name in done.stdout


def test_version_is_printed() -> None:
    assert runner.invoke(command_line.app, ["--version"]).stdout.startswith("pratique 0.")


def test_refusal_is_two_lines_on_stderr_and_exit_1() -> None:
    result = runner.invoke(command_line.app, ["refuse"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: The harbour is closed.\nhint: Wait for the tide.\n"


def test_verbose_raises_the_original() -> None:
    assert isinstance(runner.invoke(command_line.app, ["--verbose", "refuse"]).exception, RefusedError)
    with pytest.raises(RefusedError):
        command_line.main(["--verbose", "refuse"])


def test_unforeseen_error_is_undecided(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.main(["break"])
    assert ended.value.code == 3
    assert "unexpected ZeroDivisionError" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        command_line.main(["--verbose", "break"])


def test_interrupt_is_130() -> None:
    assert runner.invoke(command_line.app, ["interrupt"]).exit_code == 130


def test_usage_error_is_2() -> None:
    assert runner.invoke(command_line.app, ["no-such-command"]).exit_code == 2
    assert runner.invoke(command_line.app, ["many", "list-all", "--limit", "x"]).exit_code == 2


def test_group_behind_the_table_has_its_commands() -> None:
    result = runner.invoke(command_line.app, ["many", "list-all", "--limit", "7"])
    assert result.stdout == "limit 7\n"


@pytest.mark.parametrize(
    ("name", "said"), [("absent", "no module 'pratique.no_such_part'"), ("bare", "no_such_package")]
)
def test_missing_module_fails_only_when_called(name: str, said: str) -> None:
    result = runner.invoke(command_line.app, [name])
    assert result.exit_code == 3
    assert said in result.stderr
    assert "hint:" in result.stderr


def test_package_that_is_missed_while_the_command_runs_is_no_bug() -> None:
    result = runner.invoke(command_line.app, ["late"])
    assert result.exit_code == 3
    assert "'transformers' is not installed" in result.stderr
    assert "pratique[engine-cpu]" in result.stderr


def test_commands_can_be_loaded_by_name() -> None:
    class Group(LazyGroup):
        targets: ClassVar[dict[str, Target]] = TARGETS

    loaded = Group(name="g").load_command("refuse")
    assert loaded is not None
    assert (loaded.name, loaded.help) == ("refuse", "Refuse.")
    assert Group(name="g").load_command("nothing") is None
    with pytest.raises(MissingPartError):
        Group(name="g").load_command("bare")


def test_what_stands_in_square_brackets_is_shown() -> None:
    told = " ".join(runner.invoke(command_line.app, ["gate", "--help"], env={"COLUMNS": "200"}).stdout.split())
    for said in ("[promotion.toml]", "[the user]", "tables [release.…]", "[env var: PRATIQUE_CONFIG]"):
        assert said in told


def test_repository_and_settings_may_come_from_the_environment(tmp_path: Path) -> None:
    digest = "sha256:" + "0" * 64
    signed = runner.invoke(command_line.app, ["sign", digest, "--dry-run"], env={"PRATIQUE_REPOSITORY": "host/path"})
    assert (signed.exit_code, f"lay it beside host/path@{digest}" in signed.stderr) == (0, True)
    missing = {"PRATIQUE_CONFIG": str(tmp_path / "none.toml")}
    for words in (["gate", digest, "--repository", "a/b", "--environment", "x"], ["lock", "verify", "x"], ["rollback"]):
        reason = ["--reason", "x"] if words == ["rollback"] else []
        refused = runner.invoke(command_line.app, [*words, *reason], env=missing)
        assert (refused.exit_code, "none.toml does not exist" in refused.stderr) == (2, True), words


def test_the_commands_of_releases_stand_apart() -> None:
    told = runner.invoke(command_line.app, ["--help"]).stdout
    chat, releases = told.split("Governed releases")
    assert " up " in chat
    assert " gate " in releases
    assert " gate " not in chat


def test_every_listed_command_says_what_it_does() -> None:
    for group_class in (command_line._RootGroup, command_line._ServeGroup):
        assert all(entry.help.endswith(".") for name, entry in group_class.targets.items() if name not in TARGETS)
