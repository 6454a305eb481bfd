"""The store: only what is whole and right gets in, and only what is still right gets out."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pratique.release.mirror.errors import HashDiffersError, MirrorStoreError
from pratique.release.mirror.store import MirrorStore, State, StoredFile
from pratique.release.values import Digest, digest_of

pytestmark = pytest.mark.unit

BODY = b"0123456789"
DIGEST = digest_of(BODY)


@pytest.fixture
def store(tmp_path: Path) -> MirrorStore:
    return MirrorStore(tmp_path / "store")


def test_what_is_written_is_read_and_has_its_size(store: MirrorStore) -> None:
    assert store.add(DIGEST, [BODY[:4], BODY[4:]], max_bytes=10) == 10
    assert store.has(DIGEST)
    with store.open(DIGEST) as opened:
        assert opened.read() == BODY


@pytest.mark.parametrize(("pieces", "limit"), [([b"other"], 10), ([BODY], 9), ([], 10)])
def test_what_is_another_file_or_too_large_is_not_kept(store: MirrorStore, pieces: list[bytes], limit: int) -> None:
    with pytest.raises(HashDiffersError):
        store.add(DIGEST, pieces, max_bytes=limit)
    assert not store.has(DIGEST)
    assert not list(store.path_of(DIGEST).parent.iterdir())


def test_a_changed_file_is_refused_also_after_it_was_given_out(store: MirrorStore) -> None:
    store.add(DIGEST, [BODY], max_bytes=10)
    store.open(DIGEST).close()
    path = store.path_of(DIGEST)
    times = path.stat()
    path.write_bytes(b"9876543210")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # the time of the change of the inode stays
    with pytest.raises(HashDiffersError, match=DIGEST):
        store.open(DIGEST)


def test_an_unchanged_file_is_hashed_once(store: MirrorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add(DIGEST, [BODY], max_bytes=10)
    store.open(DIGEST).close()
    monkeypatch.setattr(hashlib, "sha256", None)
    store.open(DIGEST).close()
    with pytest.raises(TypeError):
        list(store.recheck([DIGEST]))


def test_a_recheck_tells_what_is_changed_and_what_is_gone(store: MirrorStore) -> None:
    gone = Digest(f"sha256:{'0' * 64}")
    store.add(DIGEST, [BODY], max_bytes=10)
    assert [digest for digest, _ in store.recheck([DIGEST, gone])] == [gone]
    store.path_of(DIGEST).write_bytes(b"x")
    assert [digest for digest, _ in store.recheck([DIGEST, gone])] == [DIGEST, gone]


def test_the_state_is_kept_and_empty_before_the_first_sync(store: MirrorStore) -> None:
    assert store.read_state() == State()
    state = State(files={DIGEST: StoredFile(filename="a", size_bytes=1)})
    store.write_state(state)
    assert store.read_state() == state


@pytest.mark.parametrize("body", [b"", b"{", b'{"schema_version": 2}', b"\xff"])
def test_a_damaged_state_is_told(store: MirrorStore, body: bytes) -> None:
    store.write_state(State())
    store.state_file.write_bytes(body)
    with pytest.raises(MirrorStoreError):
        store.read_state()


def test_a_store_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(MirrorStoreError):
        MirrorStore(tmp_path / "file").add(DIGEST, [BODY], max_bytes=10)
