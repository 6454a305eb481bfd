"""Warmup manifests: which shapes a model is warmed up with. Reading a file is all the I/O there is.

A manifest is TOML or JSON, `schema_version` 1; docs/reference/warmup-manifest.schema.json is its JSON Schema. What is
wrong with it is told with the file, the shape, the field, what was expected and what was found. Whether it fits an
engine (its length, its adapters) is a second question, because one manifest may serve several: `shapes_for`.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from pratique.inference.errors import WarmupManifestError
from pratique.inference.warmup.shapes import BUILT_IN_SHAPES, Shape

__all__ = [
    "MAX_SHAPES",
    "ShapeEntry",
    "WarmupManifest",
    "built_in_manifest",
    "load_manifest",
    "manifest_schema",
    "parse_manifest",
    "render_schema",
    "render_toml",
    "shapes_for",
]

MAX_SHAPES: Final = 32
"""Of one model, the catch-all included: each costs a request before the model takes traffic."""
_CATCH_ALL: Final = "catch-all"
_MAX_FILE_BYTES: Final = 1 << 20
_MOST_SHARES: Final = 1.001
_SCHEMA_ID: Final = "https://json-schema.org/draft/2020-12/schema"

_Tokens: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]
_Name: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_AdapterName: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}$")]
_Share: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=1)]


class ShapeEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One shape of a manifest."""

    name: Annotated[_Name, msgspec.Meta(description="Unique in the manifest.")]
    prompt_tokens: Annotated[_Tokens, msgspec.Meta(description="Tokens of the user's text; the template comes on top.")]
    output_tokens: Annotated[_Tokens, msgspec.Meta(description="Tokens to generate.")] = 4
    adapter: Annotated[_AdapterName | None, msgspec.Meta(description="A LoRA adapter; the base model without.")] = None
    share: Annotated[_Share | None, msgspec.Meta(description="Which part of the traffic it stands for.")] = None


class WarmupManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a model is warmed up with."""

    schema_version: Literal[1]
    model: Annotated[
        str | None, msgspec.Meta(description="The served model's name; where given, no other takes this manifest.")
    ] = None
    catch_all: Annotated[
        bool, msgspec.Meta(description="Add a shape whose prompt fills the model's context but for its output.")
    ] = True
    shapes: Annotated[
        tuple[ShapeEntry, ...], msgspec.Meta(min_length=1, max_length=256, description="Sent in this order.")
    ]


def load_manifest(path: Path) -> WarmupManifest:
    """Read a manifest; its name ends in .toml or .json.

    Raises:
        WarmupManifestError: it is not there, not readable, or wrong.
    """
    if path.suffix not in {".toml", ".json"}:
        raise WarmupManifestError(
            f"A warmup manifest's name ends in .toml or .json, not '{path.suffix}': {path}.",
            hint="Rename it to what is in it.",
        )
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise WarmupManifestError(f"The warmup manifest {path} cannot be read: {error.strerror or error}.") from error
    if len(raw) > _MAX_FILE_BYTES:
        raise WarmupManifestError(f"The warmup manifest {path} has more than {_MAX_FILE_BYTES} bytes.")
    return parse_manifest(raw, form="json" if path.suffix == ".json" else "toml", where=str(path))


def parse_manifest(raw: bytes, *, form: Literal["toml", "json"], where: str) -> WarmupManifest:
    """Read a manifest's bytes; `where` stands in errors.

    Raises:
        WarmupManifestError: it is wrong.
    """
    try:
        tree = msgspec.json.decode(raw) if form == "json" else tomllib.loads(raw.decode())
    except (msgspec.DecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WarmupManifestError(f"{where} is not {form.upper()}: {error}.") from error
    try:
        manifest = msgspec.convert(tree, WarmupManifest)
    except msgspec.ValidationError as error:
        raise _wrong(where, tree, str(error)) from error
    _verify_whole(manifest, where)
    return manifest


def shapes_for(
    manifest: WarmupManifest,
    *,
    max_model_len: int,
    adapters: Sequence[str],
    max_shapes: int = MAX_SHAPES,
    model: str | None = None,
    where: str = "The warmup manifest",
) -> tuple[Shape, ...]:
    """Return the shapes to send to an engine that takes `max_model_len` tokens and has loaded `adapters`.

    `model` is the engine's, compared with the manifest's where both are given; `where` names the manifest in errors.

    Raises:
        WarmupManifestError: the manifest does not fit this engine.
    """
    if model is not None and manifest.model not in {None, model}:
        raise WarmupManifestError(f"{where} is for the model '{manifest.model}', and '{model}' is served here.")
    shapes = tuple(Shape(**msgspec.structs.asdict(entry)) for entry in manifest.shapes)
    for shape in shapes:
        _verify_fits(shape, max_model_len, adapters, where)
    if manifest.catch_all:
        output_tokens = min(shapes[-1].output_tokens, max_model_len // 2)
        size = max_model_len - output_tokens
        shapes += (Shape(name=_CATCH_ALL, prompt_tokens=size, output_tokens=output_tokens, fills_context=True),)
    if len(shapes) > max_shapes:
        raise WarmupManifestError(
            f"{where} has {len(shapes)} shapes with the catch-all; at most {max_shapes} are sent before traffic.",
            hint="Keep those that stand for most of the traffic: `pratique warmup derive --max-shapes`.",
        )
    return shapes


def built_in_manifest(max_model_len: int, adapters: Sequence[str], *, max_shapes: int = MAX_SHAPES) -> WarmupManifest:
    """Return what is sent where there is no manifest: short, medium, long, the catch-all, one shape for each adapter.

    A long shape that does not fit is cut to half of the context. Adapters come most important first; those past
    `max_shapes` are left to their first request.
    """
    most = max_model_len // 2
    entries = [
        ShapeEntry(name=shape.name, prompt_tokens=min(shape.prompt_tokens, most), output_tokens=shape.output_tokens)
        for shape in BUILT_IN_SHAPES
    ]
    medium = entries[1]
    room = max(0, max_shapes - len(entries) - 1)
    entries += [
        msgspec.structs.replace(medium, name=f"adapter-{number}", adapter=adapter)
        for number, adapter in enumerate(adapters[:room], start=1)
    ]
    return WarmupManifest(schema_version=1, shapes=tuple(entries))


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema of manifests."""
    schema = msgspec.json.schema(WarmupManifest)
    return {"$schema": _SCHEMA_ID, "title": "pratique warmup manifest, schema_version 1", **schema}


def render_schema() -> str:
    """Return the schema as the file that is published."""
    return msgspec.json.format(msgspec.json.encode(manifest_schema()), indent=2).decode() + "\n"


def render_toml(manifest: WarmupManifest, *, comments: Sequence[str] = ()) -> str:
    """Write a manifest as TOML. The first comment heads the file, the others stand above the shapes, one for each."""
    head, *above = [*comments, *[""] * (1 + len(manifest.shapes) - len(comments))]
    lines = [f"# {head}"] if head else []
    lines.append("schema_version = 1")
    if manifest.model is not None:
        lines.append(f"model = {_quoted(manifest.model)}")
    lines.append(f"catch_all = {'true' if manifest.catch_all else 'false'}")
    for entry, comment in zip(manifest.shapes, above, strict=True):
        lines += ["", *([f"# {comment}"] if comment else []), "[[shapes]]"]
        fields = msgspec.structs.asdict(entry).items()
        lines += [f"{name} = {_quoted(value)}" for name, value in fields if value is not None]
    return "\n".join(lines) + "\n"


def _quoted(value: str | float) -> str:
    # A JSON string is a TOML basic string, but for the one control character that JSON leaves as it is.
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")


def _verify_whole(manifest: WarmupManifest, where: str) -> None:
    names = Counter(entry.name for entry in manifest.shapes)
    name, times = names.most_common(1)[0]
    if times > 1:
        raise WarmupManifestError(f"{where}: {times} shapes are called '{name}'; names are unique.")
    if _CATCH_ALL in names:
        raise WarmupManifestError(
            f"{where}: the name '{_CATCH_ALL}' is taken by the shape that fills the context.",
            hint="Give the shape another name, or set catch_all and leave the shape out.",
        )
    total = sum(entry.share or 0.0 for entry in manifest.shapes)
    if total > _MOST_SHARES:
        raise WarmupManifestError(f"{where}: the shares of the shapes add up to {total:.3f}; at most 1 was expected.")


def _verify_fits(shape: Shape, max_model_len: int, adapters: Sequence[str], where: str) -> None:
    needed = shape.prompt_tokens + shape.output_tokens
    if needed > max_model_len:
        raise WarmupManifestError(
            f"{where}, shape '{shape.name}': prompt_tokens {shape.prompt_tokens} and output_tokens "
            f"{shape.output_tokens} are {needed} tokens, and the model takes {max_model_len} (max_model_len).",
            hint="Shorten the shape; the catch-all covers the longest prompts.",
        )
    if shape.adapter is not None and shape.adapter not in adapters:
        raise WarmupManifestError(
            f"{where}, shape '{shape.name}': there is no adapter '{shape.adapter}'; "
            f"loaded: {', '.join(adapters) or 'none'}."
        )


def _wrong(where: str, tree: object, problem: str) -> WarmupManifestError:
    """Say what msgspec found, with the shape's name and the value that stands there."""
    what, _, path = problem.partition(" - at `$")
    steps = re.findall(r"\.(\w+)|\[(\d+)\]", path)
    value, name = tree, ""
    for key, number in steps:
        value = value[key] if isinstance(value, dict) and key else value
        value = value[int(number)] if isinstance(value, list) and number else value
        if number:
            known_as = value.get("name") if isinstance(value, dict) else None
            name = f", shape '{known_as}'" if isinstance(known_as, str) else f", shape {int(number) + 1}"
    field = steps[-1][0] if steps else ""
    what = re.sub("^Invalid enum value.*", "Expected 1", what)  # schema_version is the only one
    got = f"; found {str(value)[:80]!r}" if field and not isinstance(value, dict | list) else ""
    known = ShapeEntry.__struct_fields__ if name else WarmupManifest.__struct_fields__
    return WarmupManifestError(
        f"{where}{name}{f', field {field}' if field else ''}: {what}{got}.",
        hint=f"Known fields: {', '.join(known)}.",
    )
