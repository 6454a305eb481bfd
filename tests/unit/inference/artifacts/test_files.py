"""Files that change between a look and the opening, or that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pratique.inference.artifacts._files import Folder, Identity, UnreadableError, opened
from pratique.inference.errors import ArtifactError

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a").write_bytes(b"content")
    return tmp_path


def to_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        (to_link, ArtifactError, "not a regular file but a symbolic link"),
        (to_pipe, ArtifactError, "not a regular file"),
        (Path.unlink, FileNotFoundError, "No such file"),
    ],
)
def test_a_file_that_is_exchanged_after_the_look_is_not_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], kind: type[Exception], reason: str
) -> None:
    identity = Folder.identity

    def look_and_exchange(self: Folder, name: str) -> Identity:
        found = identity(self, name)
        change(folder / name)
        return found

    monkeypatch.setattr(Folder, "identity", look_and_exchange)
    with opened(folder) as files, pytest.raises(kind, match=reason):
        files.read("a", 100)


def failing(code: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("call", ["stat", "open", "pread"])
def test_what_the_system_refuses_is_named_with_its_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with opened(folder) as files:
        monkeypatch.setattr(os, call, failing(13))
        with pytest.raises(UnreadableError, match=r"/a cannot be read: Permission denied"):
            files.read("a", 100)


def test_a_file_that_ends_too_early_is_named(folder: Path) -> None:
    with opened(folder) as files, files.open("a") as descriptor:
        assert files.read_at("a", descriptor, offset=3, num_bytes=4) == b"tent"
        with pytest.raises(ArtifactError, match="ends 3 bytes before it should"):
            files.read_at("a", descriptor, offset=3, num_bytes=7)


def test_a_file_over_its_bound_is_not_read(folder: Path) -> None:
    with opened(folder) as files, pytest.raises(ArtifactError, match="has 7 bytes, expected at most 6"):
        files.read("a", 6)


def test_what_is_no_folder_is_not_opened(folder: Path) -> None:
    with pytest.raises(UnreadableError, match="Not a directory"), opened(folder / "a"):
        pytest.fail("it was opened")
