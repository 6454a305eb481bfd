"""Records, downloads and folders: what went into a build, by digest."""

from __future__ import annotations

import io
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pratique.release.build.downloads import downloads_of, hashes_in_lock, require_listed
from pratique.release.build.errors import UnlistedWheelError
from pratique.release.build.interface import Exported
from pratique.release.build.record import (
    BuilderRecord,
    BuildRecord,
    Material,
    SourceRecord,
    load_record,
    write_record,
)
from pratique.release.build.source import copy_plain
from pratique.release.build.trees import tree_digest
from pratique.release.errors import EvidenceError
from pratique.release.values import Digest, digest_of

pytestmark = pytest.mark.unit

ONE = Material(name="a", digest=Digest("sha256:" + "1" * 64))
AT = datetime(2026, 1, 1, tzinfo=UTC)
RECORD = BuildRecord(
    image=ONE.digest,
    tag="abc",
    invocation_id="bld_1",
    source=SourceRecord(repository="https://example.org/a", commit="abc", committed_at=AT, is_dirty=False),
    builder=BuilderRecord(id="urn:x", name="buildah", version="1", parameters={}),
    dockerfile=ONE,
    bases=(ONE,),
    locks=(),
    downloads=(),
    artifacts=(),
    parameters={"target": "runtime"},
    started_at=AT,
    finished_at=AT,
    log=ONE,
)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_record(tmp_path / "r", RECORD)
    assert load_record(tmp_path / "r") == RECORD


@pytest.mark.parametrize("text", ["", "{}", '{"schema_version": 2}', "[1]"])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r").write_text(text, encoding="utf-8")
    with pytest.raises(EvidenceError, match="is no build record"):
        load_record(tmp_path / "r")


def test_a_member_that_is_not_known_makes_it_no_record(tmp_path: Path) -> None:
    write_record(tmp_path / "r", RECORD)
    text = (tmp_path / "r").read_text(encoding="utf-8").replace('"tag"', '"other": 1, "tag"')
    (tmp_path / "r").write_text(text, encoding="utf-8")
    with pytest.raises(EvidenceError, match="unknown field `other`"):
        load_record(tmp_path / "r")


def test_a_record_without_end_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(bytes(17 * 1024 * 1024))
    with pytest.raises(EvidenceError, match="so long"):
        load_record(tmp_path / "r")


def test_downloads_are_found_in_any_layer_and_the_last_of_a_name_counts(tmp_path: Path) -> None:
    layers = []
    for number, files in enumerate(
        [{"wheels/a.whl": b"old", "etc/x": b""}, {"wheels/a.whl": b"new", "./wheels/b/c": b"c"}]
    ):
        layers.append(tmp_path / f"layer-{number}")
        with tarfile.open(layers[-1], "w") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            tar.addfile(tarfile.TarInfo("wheels/.wh.gone"))
    found = downloads_of(Exported(b"{}", tuple(layers)), "/wheels")
    assert found == (Material(name="a.whl", digest=digest_of(b"new")), Material(name="b/c", digest=digest_of(b"c")))


def test_hashes_are_read_from_a_lock() -> None:
    text = f"a==1 \\\n    --hash=sha256:{'1' * 64} \\\n    --hash=sha256:{'2' * 64}\nb==1 --hash=sha256:{'3' * 63}\n"
    assert hashes_in_lock(text) == {f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"}


def test_a_file_that_no_lock_names_is_refused() -> None:
    require_listed([ONE], {ONE.digest}, [])
    with pytest.raises(UnlistedWheelError, match=r"1 files that no lock names \(none is given: --lock FILE\)"):
        require_listed([ONE], set(), [])
    with pytest.raises(UnlistedWheelError, match=r"\(x.txt\):\n  a sha256:1"):
        require_listed([ONE], {digest_of(b"")}, [Path("x.txt")])


def test_the_digest_of_a_folder_is_of_names_modes_and_contents(tmp_path: Path) -> None:
    source = tmp_path / "one"
    (source / "b").mkdir(parents=True)
    (source / "b" / "x").write_text("1", encoding="utf-8")
    (source / "b" / "x").chmod(0o640)
    (source / "l").symlink_to("b/x")
    copy_plain(source, tmp_path / "two")
    assert ((tmp_path / "two/b/x").stat().st_mode & 0o777, (tmp_path / "two/b").stat().st_mode & 0o777) == (
        0o644,
        0o755,
    )
    first = tree_digest(source)
    assert tree_digest(tmp_path / "two") == first
    (tmp_path / "two/b/x").chmod(0o755)
    (source / "b" / "x").write_text("2", encoding="utf-8")
    assert len({first, tree_digest(tmp_path / "two"), tree_digest(source)}) == 3
    (source / "b" / "x").rename(source / "b" / "y")
    assert tree_digest(source) != first
