"""Settings: one frozen value per part, built once at the edge from file, environment and flags, then passed in.

A part declares a `Settings` subclass; its fields carry defaults, units in their names and `msgspec.Meta` bounds.
Later sources win: defaults < TOML file < environment < explicit values. Unknown keys are refused everywhere, because
a misspelt setting that is silently dropped is an outage that waits.

Environment: `PRATIQUE_<PART>_<FIELD>`, for example `PRATIQUE_ORCHESTRATOR_HEARTBEAT_SECONDS=15`. The value is taken as
it stands where the setting can be read from text (so `1.0` is a fine name), and as JSON otherwise (lists).
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from pratique.core.errors import CallerError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Settings", "SettingsError", "load_settings"]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a part's settings."""


S = TypeVar("S", bound=Settings)


class SettingsError(CallerError):
    """A setting is unknown, missing, or out of its bounds."""

    code = "invalid_settings"


def load_settings(
    kind: type[S],
    *,
    part: str,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> S:
    """Merge the sources into one value of `kind`.

    Args:
        kind: the part's settings type.
        part: the table of the file and the word in the environment's names, for example "orchestrator".
        file: a TOML file with a table named after the part; other tables belong to other parts.
        environment: usually `os.environ`; nothing is read where it is left out.
        overrides: explicit values, usually from flags; None means "not given".

    Raises:
        SettingsError: naming the setting, what was found, and where it came from.
    """
    merged: dict[str, object] = {}
    if file is not None:
        merged.update(_from_file(file, part))
    merged.update(_from_environment(environment or {}, part, kind))
    merged.update({name: value for name, value in (overrides or {}).items() if value is not None})
    try:
        return msgspec.convert(merged, kind, strict=False, dec_hook=_read_path)
    except msgspec.ValidationError as error:
        raise SettingsError(
            f"The settings of '{part}' are wrong: {error}.",
            hint=f"Known settings: {', '.join(kind.__struct_fields__)}.",
        ) from error


def _from_file(file: Path, part: str) -> dict[str, object]:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get(part, {})
    except FileNotFoundError as error:
        raise SettingsError(f"The settings file {file} does not exist.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"The settings file {file} cannot be read as TOML: {error}.") from error
    if not isinstance(table, dict):
        raise SettingsError(f"In {file}, '{part}' must be a table [{part}], not {type(table).__name__}.")
    return dict(table)


def _from_environment(environment: Mapping[str, str], part: str, kind: type[S]) -> dict[str, object]:
    prefix = f"PRATIQUE_{part.upper()}_"
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    found: dict[str, object] = {}
    for name, text in environment.items():
        if not name.startswith(prefix):
            continue
        field = name.removeprefix(prefix).lower()
        if field not in types:
            raise SettingsError(
                f"The environment variable {name} names no setting of '{part}'.",
                hint=f"Known settings: {', '.join(kind.__struct_fields__)}.",
            )
        found[field] = _parse(text, types[field])
    return found


def _parse(text: str, kind: Any) -> Any:  # noqa: ANN401 - the settings type decides what is acceptable
    try:
        msgspec.convert(text, kind, strict=False, dec_hook=_read_path)
    except msgspec.ValidationError:
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text
    return text


def _read_path(kind: type, value: object) -> object:
    if isinstance(value, kind):
        return value
    if kind is Path and isinstance(value, str) and value:
        return Path(value).expanduser()
    raise ValueError(f"Expected `{kind.__name__}`, got `{value!r}`")  # msgspec adds where
