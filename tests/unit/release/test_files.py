from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pratique.release.files import replacing

pytestmark = pytest.mark.unit


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")
    with replacing(target) as file:
        file.write(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [target]


def begin_and_fail(target: Path, error: type[BaseException]) -> None:
    with replacing(target) as file:
        file.write(b"new")
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_where_writing_ends_early_nothing_has_changed(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")
    with pytest.raises(error):
        begin_and_fail(target, error)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_name_that_cannot_be_taken_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="directory"), replacing(tmp_path / "a") as file:
        file.write(b"new")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_its_permissions_are_those_asked_for(tmp_path: Path) -> None:
    with replacing(tmp_path / "a", mode=0o600) as file:
        file.write(b"new")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
