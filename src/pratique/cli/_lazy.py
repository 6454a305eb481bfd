"""Commands that are imported when they are called.

A group lists its commands from a table: name, one line of help, where the function or Typer app stands, and the extra
that it needs. Nothing behind the table is imported for `--help`, so help is fast and a part whose extra is not
installed fails when it is called, not when its neighbour is.
"""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import dataclass
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

from pratique.core.errors import EnvironmentFaultError

__all__ = ["LazyGroup", "MissingPartError", "Target"]

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"]}
# Imported by what counts tokens or converts weights, and in no part's own extra.
_ENGINE_EXTRA = "engine-cpu"
_ENGINE_PACKAGES = frozenset({"gguf", "safetensors", "torch", "transformers", "vllm"})
_PANELS = {"release": "Governed releases"}
"""The heading in the root's help, by the extra that a command needs; all others stand under "Commands"."""
_BRACKET = re.compile(r"(?<!\\)\[")


class MissingPartError(EnvironmentFaultError):
    """The command's module, or a package that it needs, is not installed."""

    code = "missing_part"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A command as its group knows it before it is loaded."""

    help: str
    module: str
    attribute: str
    extra: str = ""
    hidden: bool = False
    """An older name, kept working and out of the help."""


class _Unloaded(TyperCommand):
    """Stands in a group for a command that is not imported yet."""

    def __init__(self, name: str, target: Target) -> None:
        panel = _PANELS.get(target.extra)
        super().__init__(name, help=target.help, add_help_option=False, hidden=target.hidden, rich_help_panel=panel)
        self._target = target

    def load(self) -> TyperCommand | TyperGroup:
        found = _import(self._target)
        if isinstance(found, typer.Typer):
            group = typer.main.get_group(found)
            group.name = self.name
            _take_literally(group)
            return group
        app = typer.Typer(add_completion=False, context_settings=CONTEXT_SETTINGS)
        app.command(self.name, help=inspect.getdoc(found))(found)
        command = typer.main.get_command(app)
        assert isinstance(command, TyperCommand)  # noqa: S101 - narrows the type: an app with one command is that command
        _take_literally(command)
        return command


class LazyGroup(TyperGroup):
    """A group whose commands come from `targets`."""

    targets: ClassVar[dict[str, Target]] = {}

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - passed through to the base
        super().__init__(**attributes)
        self.commands = {name: _Unloaded(name, target) for name, target in self.targets.items()} | dict(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - typer keeps these types private
        """Return the called command, imported now."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, _Unloaded) else command, rest

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - typer keeps these types private
        """Run the called command. What it imports only while it runs may be missing too."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            target = self.targets.get(ctx.invoked_subcommand or "")
            if target is None:
                raise
            raise _missing(error, target) from error

    def load_command(self, name: str) -> TyperCommand | TyperGroup | None:
        """Return one of the group's commands, imported; None where there is no such command.

        Raises:
            MissingPartError: it, or a package that it needs, is not installed.
        """
        command = self.commands.get(name)
        if isinstance(command, _Unloaded):
            return command.load()
        return command if isinstance(command, TyperCommand | TyperGroup) else None


def _take_literally(command: Any) -> None:  # noqa: ANN401 - typer keeps these types private
    """Have square brackets in help shown as they stand: rich takes `[the user]` for markup, and leaves it out."""
    for one in (command, *command.params):
        one.help = _BRACKET.sub(r"\\[", one.help or "") or None
    for below in getattr(command, "commands", {}).values():
        _take_literally(below)


def _import(target: Target) -> Any:  # noqa: ANN401 - a function of any signature, or a Typer app
    try:
        return getattr(importlib.import_module(target.module), target.attribute)
    except ModuleNotFoundError as error:
        raise _missing(error, target) from error


def _missing(error: ModuleNotFoundError, target: Target) -> MissingPartError:
    missing = error.name or "a module"
    if missing.startswith("pratique"):
        return MissingPartError(
            f"This installation is incomplete: it has no module '{missing}'.", hint="Install pratique again."
        )
    extra = _ENGINE_EXTRA if missing.partition(".")[0] in _ENGINE_PACKAGES else target.extra
    return MissingPartError(
        f"The package '{missing}' is not installed, and this command needs it.",
        hint=f"pip install 'pratique{f'[{extra}]' if extra else ''}', or `make up` in a checkout.",
    )
