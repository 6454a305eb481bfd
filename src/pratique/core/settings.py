"""Settings: one frozen value per part, built once at the edge from file, environment and flags, then passed in.

A part declares a `Settings` subclass; its fields carry defaults, units in their names and `msgspec.Meta` bounds.
Later sources win: defaults < TOML file < environment < explicit values. Unknown keys are refused everywhere, because
a misspelt setting that is silently dropped is an outage that waits.

Environment: `PRATIQUE_<PART>_<FIELD>`, for example `PRATIQUE_ORCHESTRATOR_HEARTBEAT_SECONDS=15`. The value is taken as
it stands where the setting can be read from text (so `1.0` is a fine name), and as JSON otherwise (lists).
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import msgspec.inspect

from pratique.core.errors import CallerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
    from_file = _from_file(file, part) if file is not None else {}
    from_environment = _from_environment(environment or {}, part, kind)
    explicit = {name: value for name, value in (overrides or {}).items() if value is not None}
    try:
        return msgspec.convert({**from_file, **from_environment, **explicit}, kind, strict=False, dec_hook=_read_path)
    except msgspec.ValidationError as error:
        origins = (
            dict.fromkeys(from_file, f"in {file}")
            | {name: f"in the environment variable {_variable(part, name)}" for name in from_environment}
            | dict.fromkeys(explicit, "given explicitly")
        )
        raise _explained(error, kind, part, origins) from error


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
    prefix = _variable(part, "")
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    found: dict[str, object] = {}
    for name, text in environment.items():
        if not name.startswith(prefix):
            continue
        field = name.removeprefix(prefix).lower()
        if field not in types:
            raise SettingsError(
                f"The environment variable {name} names no setting of '{part}'.",
                hint=_known(field, kind.__struct_fields__),
            )
        found[field] = _parse(text, types[field])
    return found


def _variable(part: str, name: str) -> str:
    return f"PRATIQUE_{part.upper()}_{name.upper()}"


_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`")


def _explained(
    error: msgspec.ValidationError, kind: type[Settings], part: str, origins: Mapping[str, str]
) -> SettingsError:
    """Say where the wrong setting came from, and what could stand in its place."""
    path = str(error).partition(" - at `$")[2]
    steps = re.findall(r"\.(\w+)", path)  # the places in lists are left out: their entries are of one type
    place = _type_at(kind, steps)
    unknown = _UNKNOWN.match(str(error))
    if unknown is None:
        origin = origins.get(steps[0] if steps else "", "")
        hint = f"One of: {', '.join(map(str, _choices(place)))}." if _choices(place) else None
        return SettingsError(f"The settings of '{part}' are wrong: {error}{_in_brackets(origin)}.", hint=hint)
    name = unknown[1]
    origin = origins.get(steps[0] if steps else name, "")
    known = [field.encode_name for field in place.fields] if isinstance(place, msgspec.inspect.StructType) else []
    table = ".".join([part, *steps])
    return SettingsError(f"[{table}] has no setting '{name}'{_in_brackets(origin)}.", hint=_known(name, known))


def _in_brackets(origin: str) -> str:
    return f" ({origin})" if origin else ""


def _known(name: str, known: Iterable[str]) -> str:
    known = tuple(known)
    near = difflib.get_close_matches(name, known, n=1)
    meant = f"Did you mean '{near[0]}'? " if near else ""
    return f"{meant}Known settings: {', '.join(known)}."


def _type_at(kind: type[Settings], steps: Iterable[str]) -> msgspec.inspect.Type | None:
    place: msgspec.inspect.Type | None = msgspec.inspect.type_info(kind)
    for step in steps:
        fields = place.fields if isinstance(place, msgspec.inspect.StructType) else ()
        place = next((_one_of(field.type) for field in fields if field.encode_name == step), None)
    return place


def _one_of(kind: msgspec.inspect.Type) -> msgspec.inspect.Type:
    """Return a list's entries, and what a setting is where it is not None."""
    if isinstance(kind, msgspec.inspect.VarTupleType):
        return _one_of(kind.item_type)
    if isinstance(kind, msgspec.inspect.UnionType):
        return next(one for one in kind.types if not isinstance(one, msgspec.inspect.NoneType))
    return kind


def _choices(place: msgspec.inspect.Type | None) -> tuple[object, ...]:
    if isinstance(place, msgspec.inspect.LiteralType):
        return tuple(place.values)
    if isinstance(place, msgspec.inspect.EnumType):
        return tuple(member.value for member in place.cls)
    return ()


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
