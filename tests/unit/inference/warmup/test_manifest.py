"""Manifests: every mistake is told with its place; what fits an engine is a second question."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.inference.errors import WarmupManifestError
from pratique.inference.warmup.manifest import (
    ShapeEntry,
    WarmupManifest,
    built_in_manifest,
    load_manifest,
    parse_manifest,
    render_schema,
    render_toml,
    shapes_for,
)
from pratique.inference.warmup.shapes import Shape

pytestmark = pytest.mark.unit

GOOD = """
schema_version = 1
model = "smollm2"
[[shapes]]
name = "short"
prompt_tokens = 10
share = 0.4
[[shapes]]
name = "medium"
prompt_tokens = 200
output_tokens = 8
adapter = "sales/de"
"""
SCHEMA = Path(__file__).resolve().parents[4] / "docs" / "reference" / "warmup-manifest.schema.json"


def parse(text: str, form: Any = "toml") -> WarmupManifest:
    return parse_manifest(text.encode(), form=form, where="w.toml")


def of(*entries: ShapeEntry, **fields: Any) -> WarmupManifest:
    return WarmupManifest(schema_version=1, shapes=entries, **fields)


def entry(text: str) -> str:
    return f'schema_version = 1\n[[shapes]]\nname = "first"\nprompt_tokens = 5\n[[shapes]]\n{text}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shapes = [", r"w\.toml is not TOML"),
        ("schema_version = 2\nshapes = []", r"w\.toml, field schema_version: Expected 1; found '2'"),
        ("schema_version = 1", "missing required field `shapes`"),
        ("schema_version = 1\nshapes = []", "field shapes: Expected `array` of length >= 1"),
        ("schema_version = 1\nshapes = [1]", r"w\.toml, shape 1: Expected `object`, got `int`"),
        ("schema_version = 1\nwarm = 1\n[[shapes]]\nname = 'a'\nprompt_tokens = 1", "unknown field `warm`"),
        (entry("name = 'x'\nprompt_tokens = 0"), r"w\.toml, shape 'x', field prompt_tokens: .*>= 1; found '0'"),
        (entry("name = 'x'\nprompt_tokens = 1.5"), "shape 'x', field prompt_tokens: .*got `float`; found '1.5'"),
        (entry("name = 'x'\nprompt_tokens = true"), "field prompt_tokens: .*got `bool`"),
        (entry("name = 'x'\nprompt_tokens = 100000000000000000000"), "field prompt_tokens: .*<= 16777216"),
        (entry("name = 'x'\nprompt_tokens = 1\noutput_tokens = 0"), "field output_tokens"),
        (entry("name = 'x'\nprompt_tokens = 1\nshare = 1.5"), "field share: .*<= 1.0; found '1.5'"),
        (entry("name = 'x'\nprompt_tokens = 1\nshare = nan"), "field share"),
        (entry("name = 'x'\nprompt_tokens = 1\ntokens = 3"), "shape 'x': Object contains unknown field `tokens`"),
        (entry("prompt_tokens = 1"), "shape 2: Object missing required field `name`"),
        (entry("name = 'a b'\nprompt_tokens = 1"), "shape 'a b', field name: .*matching regex"),
        (entry("name = 'x'\nprompt_tokens = 1\nadapter = '日本'"), "field adapter: .*found '日本'"),
        (entry("name = 'first'\nprompt_tokens = 1"), "2 shapes are called 'first'"),
        (entry("name = 'catch-all'\nprompt_tokens = 1"), "'catch-all' is taken"),
        (
            entry("name = 'x'\nprompt_tokens = 1\nshare = 0.9\n[[shapes]]\nname = 'y'\nprompt_tokens = 1\nshare = 0.2"),
            "1.1",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, message: str) -> None:
    with pytest.raises(WarmupManifestError, match=message):
        parse(text)


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"[" * 100_000, b"{", b'{"schema_version": 1}', b"null", b""])
def test_bytes_that_are_no_manifest_are_refused(raw: bytes) -> None:
    with pytest.raises(WarmupManifestError, match=r"w\.json"):
        parse_manifest(raw, form="json", where="w.json")


def test_toml_and_json_say_the_same() -> None:
    manifest = parse(GOOD)
    assert manifest.shapes[1] == ShapeEntry(name="medium", prompt_tokens=200, output_tokens=8, adapter="sales/de")
    as_json = json.dumps(
        {
            "schema_version": 1,
            "model": "smollm2",
            "shapes": [
                {"name": "short", "prompt_tokens": 10, "share": 0.4},
                {"name": "medium", "prompt_tokens": 200, "output_tokens": 8, "adapter": "sales/de"},
            ],
        }
    )
    assert parse(as_json, "json") == manifest


def test_files_are_read_by_their_ending(tmp_path: Path) -> None:
    file = tmp_path / "w.toml"
    file.write_text(GOOD)
    assert load_manifest(file).model == "smollm2"
    for name, match in (("w.yaml", "ends in .toml or .json"), ("none.toml", "cannot be read")):
        with pytest.raises(WarmupManifestError, match=match):
            load_manifest(tmp_path / name)
    (tmp_path / "huge.json").write_bytes(b" " * (1 << 20) + b"{}")
    with pytest.raises(WarmupManifestError, match="more than 1048576 bytes"):
        load_manifest(tmp_path / "huge.json")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(WarmupManifestError, match="cannot be read"):
        load_manifest(tmp_path / "folder.toml")


def test_an_error_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "w.json"
    file.write_text('{"schema_version": 1, "shapes": [{"name": "a", "prompt_tokens": -1}]}')
    with pytest.raises(WarmupManifestError, match=r"w\.json, shape 'a', field prompt_tokens"):
        load_manifest(file)


def test_shapes_come_in_order_and_the_catch_all_fills_the_context() -> None:
    shapes = shapes_for(parse(GOOD), max_model_len=2048, adapters=["sales/de"], model="smollm2")
    assert shapes == (
        Shape(name="short", prompt_tokens=10, output_tokens=4, share=0.4),
        Shape(name="medium", prompt_tokens=200, output_tokens=8, adapter="sales/de"),
        Shape(name="catch-all", prompt_tokens=2040, output_tokens=8, fills_context=True),
    )


def test_without_a_catch_all_there_is_none() -> None:
    manifest = of(ShapeEntry(name="a", prompt_tokens=5), catch_all=False)
    assert [shape.name for shape in shapes_for(manifest, max_model_len=128, adapters=[])] == ["a"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_model_len": 207}, "shape 'medium': prompt_tokens 200 and output_tokens 8 are 208 tokens, .* takes 207"),
        ({"adapters": []}, "shape 'medium': there is no adapter 'sales/de'; loaded: none"),
        ({"adapters": ["a", "b"]}, "loaded: a, b"),
        ({"model": "other"}, "for the model 'smollm2', and 'other' is served"),
        ({"max_shapes": 2}, "3 shapes with the catch-all; at most 2"),
    ],
)
def test_a_manifest_that_does_not_fit_the_engine_is_refused(fields: dict[str, Any], message: str) -> None:
    given_fields = {"max_model_len": 2048, "adapters": ["sales/de"], "where": "w.toml", **fields}
    with pytest.raises(WarmupManifestError, match=message) as caught:
        shapes_for(parse(GOOD), **given_fields)
    assert "w.toml" in caught.value.message


@pytest.mark.parametrize("max_model_len", [128, 300, 2048, 131_072])
@pytest.mark.parametrize("num_adapters", [0, 2, 100])
def test_the_built_in_manifest_fits_every_engine(max_model_len: int, num_adapters: int) -> None:
    adapters = [f"adapter/{number}" for number in range(num_adapters)]
    manifest = built_in_manifest(max_model_len, adapters)
    shapes = shapes_for(manifest, max_model_len=max_model_len, adapters=adapters)
    assert [shape.name for shape in shapes[:3]] == ["short", "medium", "long"]
    assert shapes[-1].prompt_tokens + shapes[-1].output_tokens == max_model_len
    # The most used come first; the bound on shapes leaves the rest to their first request.
    assert [shape.adapter for shape in shapes[3:-1]] == adapters[:28]


@given(
    names=st.lists(
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True), min_size=1, max_size=5, unique=True
    ),
    model=st.none() | st.text(st.characters(codec="utf-8"), max_size=20),
    tokens=st.integers(1, 1 << 24),
    share=st.none() | st.floats(0.0001, 0.2),
)
@settings(max_examples=30, deadline=None)
def test_what_is_written_is_read_again(names: list[str], model: str | None, tokens: int, share: float | None) -> None:
    entries = [ShapeEntry(name=name, prompt_tokens=tokens, share=share, adapter="a/b:c") for name in names]
    manifest = of(*entries, model=model, catch_all=tokens % 2 == 0)
    assert parse(render_toml(manifest, comments=["head", "above"])) == manifest
    assert parse(render_toml(manifest)) == manifest


def test_the_published_schema_is_what_the_code_says() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == render_schema(), (
        "run: pratique warmup schema > docs/reference/warmup-manifest.schema.json"
    )
    schema = json.loads(render_schema())
    assert schema["$defs"]["ShapeEntry"]["additionalProperties"] is False
    assert set(schema["$defs"]["ShapeEntry"]["properties"]) == set(ShapeEntry.__struct_fields__)
