from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Literal

import pytest
from msgspec import Meta

from pratique.core.settings import Settings, SettingsError, load_settings

pytestmark = pytest.mark.unit


class Inner(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    mode: Literal["fast", "slow"] = "fast"


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Example(Settings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str = "default"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 80
    ratio: float = 0.5
    is_on: bool = False
    urls: tuple[str, ...] = ()
    limit: int | None = 3
    folder: Path | None = None
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()
    colour: Colour | None = None


def load(**sources: object) -> Example:
    return load_settings(Example, part="example", **sources)  # type: ignore[arg-type]  # each test gives the right ones


def test_without_sources_the_defaults_stand() -> None:
    assert load() == Example()


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "pratique.toml"
    file.write_text('[example]\nname = "file"\nport = 1\nratio = 0.1\n[other]\nunknown = 1\n')
    environment = {"PRATIQUE_EXAMPLE_PORT": "2", "PRATIQUE_EXAMPLE_RATIO": "0.2", "PRATIQUE_OTHER_X": "y"}
    loaded = load(file=file, environment=environment, overrides={"ratio": 0.3, "name": None})
    assert (loaded.name, loaded.port, loaded.ratio) == ("file", 2, 0.3)


@pytest.mark.parametrize("text", ["42", "1.0", "true", "null", "[1]", '"quoted"', "", "plain"])
def test_a_text_setting_takes_the_environment_as_it_stands(text: str) -> None:
    assert load(environment={"PRATIQUE_EXAMPLE_NAME": text}).name == text


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_a_flag_is_read_in_the_usual_ways(text: str, *, value: bool) -> None:
    assert load(environment={"PRATIQUE_EXAMPLE_IS_ON": text}).is_on is value


def test_lists_come_as_json_and_null_means_none() -> None:
    loaded = load(environment={"PRATIQUE_EXAMPLE_URLS": '["a", "b"]', "PRATIQUE_EXAMPLE_LIMIT": "null"})
    assert (loaded.urls, loaded.limit) == (("a", "b"), None)


@pytest.mark.parametrize("source", ["environment", "file", "overrides"])
def test_a_folder_is_a_path_wherever_it_comes_from(tmp_path: Path, source: str) -> None:
    file = tmp_path / "pratique.toml"
    file.write_text('[example]\nfolder = "~/models"\n')
    sources: dict[str, object] = {
        "environment": {"PRATIQUE_EXAMPLE_FOLDER": "~/models"},
        "file": file,
        "overrides": {"folder": Path.home() / "models"},
    }
    assert load(**{source: sources[source]}).folder == Path.home() / "models"


@pytest.mark.parametrize(
    ("name", "text"),
    [("FOLDER", ""), ("PORT", "many"), ("PORT", "65536"), ("URLS", "a,b"), ("IS_ON", "perhaps"), ("RATIO", "[]")],
)
def test_a_value_that_does_not_fit_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=name.lower()) as caught:
        load(environment={f"PRATIQUE_EXAMPLE_{name}": text})
    assert f"(in the environment variable PRATIQUE_EXAMPLE_{name})" in caught.value.message


def test_a_value_that_is_no_choice_is_refused_with_the_choices(tmp_path: Path) -> None:
    file = tmp_path / "pratique.toml"
    for text, choices in (
        ('[example.inner]\nmode = "fats"\n', "fast, slow"),
        ('[example]\ncolour = "x"\n', "red, blue"),
    ):
        file.write_text(text)
        with pytest.raises(SettingsError, match=r"pratique\.toml\)") as caught:
            load(file=file)
        assert caught.value.hint == f"One of: {choices}."


@pytest.mark.parametrize(
    ("text", "said", "known"),
    [
        ("[example]\nprot = 1\n", "[example] has no setting 'prot' (in ", "Did you mean 'port'? Known settings: name,"),
        ("[example.inner]\nmod = 1\n", "[example.inner] has no setting 'mod' (in ", "Did you mean 'mode'? Known"),
        ("[[example.many]]\nxyzzy = 1\n", "[example.many] has no setting 'xyzzy' (in ", "Known settings: mode."),
    ],
)
def test_an_unknown_setting_is_told_with_its_table_and_what_is_known_there(
    tmp_path: Path, text: str, said: str, known: str
) -> None:
    file = tmp_path / "pratique.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(file=file)
    assert caught.value.message.startswith(said)
    assert (caught.value.hint or "").startswith(known)


def test_unknown_settings_are_refused_wherever_they_come_from(tmp_path: Path) -> None:
    file = tmp_path / "pratique.toml"
    file.write_text("[example]\nprot = 1\n")
    for sources in ({"file": file}, {"environment": {"PRATIQUE_EXAMPLE_PROT": "1"}}, {"overrides": {"prot": 1}}):
        with pytest.raises(SettingsError, match=r"(?i)prot"):
            load(**sources)


@pytest.mark.parametrize("content", [b"[example", b"\xff", b"example = 3\n"])
def test_a_file_that_is_not_a_table_of_settings_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "pratique.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"pratique\.toml"):
        load(file=file)


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load(file=tmp_path / "missing.toml")
