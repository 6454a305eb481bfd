"""Layers are read within limits, and what could fool a reader is refused: bombs, escapes, broken headers."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pratique.release.build.layertar import Entry, LayerLimits, plain_path, read_entries
from pratique.release.errors import EvidenceError

pytestmark = pytest.mark.unit


def tar_of(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def read(content: bytes, **limits: int) -> list[tuple[Entry, bytes]]:
    entries = read_entries(io.BytesIO(content), LayerLimits(**limits))
    return [(entry, entry.content.read(-1) if entry.content else b"") for entry in entries]


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_what_entries_say_and_hold(pack: Callable[[bytes], bytes]) -> None:
    content = tar_of(
        (member("./etc/", tarfile.DIRTYPE, mode=0o755), b""),
        (member("./etc/passwd", mode=0o4644, uid=7, gid=8, mtime=99), b"root"),
        (member("etc/link", tarfile.SYMTYPE, linkname="/passwd"), b""),
        (member("etc/hard", tarfile.LNKTYPE, linkname="./etc/passwd"), b""),
        (member("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3), b""),
        (member("pipe", tarfile.FIFOTYPE), b""),
        (member("x" * 300, pax_headers={"SCHILY.xattr.user.a": "b"}), b"long"),
    )
    found = read(pack(content))
    assert [(entry.path, entry.kind) for entry, _ in found][:6] == [
        ("etc", "directory"),
        ("etc/passwd", "file"),
        ("etc/link", "symlink"),
        ("etc/hard", "hardlink"),
        ("dev/null", "device"),
        ("pipe", "fifo"),
    ]
    entry, passwd = found[1]
    assert (entry.mode, entry.owner, entry.size, entry.mtime, passwd) == (0o4644, (7, 8), 4, 99, b"root")
    assert (entry.name, entry.parent) == ("passwd", "etc")
    assert [found[2][0].link, found[3][0].link, found[4][0].extra] == ["/passwd", "etc/passwd", (("device", "1:3"),)]
    assert found[6][0].extra == (("SCHILY.xattr.user.a", "b"),)


def test_whiteouts_say_what_they_hide() -> None:
    content = tar_of(
        (member("a/.wh.b"), b""), (member("a/.wh..wh..opq"), b""), (member(".wh.c"), b""), (member("d"), b"")
    )
    found = [entry for entry, _ in read(content)]
    assert [(entry.removes, entry.is_opaque) for entry in found] == [
        ("a/b", False),
        (None, True),
        ("c", False),
        (None, False),
    ]


@pytest.mark.parametrize("name", ["../etc/passwd", "a/../../b", "..", "a" * 5000])
def test_a_path_that_leaves_the_root_is_refused(name: str) -> None:
    with pytest.raises(EvidenceError, match="leaves the root or is too long"):
        read(tar_of((member(name), b"")))


def test_a_hard_link_that_leaves_the_root_is_refused() -> None:
    with pytest.raises(EvidenceError, match="leaves the root"):
        read(tar_of((member("a", tarfile.LNKTYPE, linkname="../../x"), b"")))


def test_a_bomb_ends_at_the_limit() -> None:
    bomb = gzip.compress(tar_of((member("zeros"), bytes(50_000_000))))
    assert len(bomb) < 100_000
    with pytest.raises(EvidenceError, match="more bytes"):
        list(read_entries(io.BytesIO(bomb), LayerLimits(num_bytes=10_000_000)))


def test_bytes_behind_the_end_count_too() -> None:
    tail = gzip.compress(tar_of((member("a"), b"")) + bytes(50_000_000))
    with pytest.raises(EvidenceError, match="more bytes"):
        read(tail, num_bytes=10_000_000)


def test_entries_without_end_stop_at_the_limit() -> None:
    with pytest.raises(EvidenceError, match="more entries"):
        read(tar_of(*((member(f"f{n}"), b"") for n in range(20))), num_entries=10)


def test_a_header_of_megabytes_is_not_read() -> None:
    huge = member("x", tarfile.XHDTYPE)
    huge.size = 2**33
    with pytest.raises(EvidenceError, match="header of"):
        read(huge.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def test_a_sparse_file_is_refused() -> None:
    sparse = member("x", tarfile.GNUTYPE_SPARSE)
    with pytest.raises(EvidenceError, match="sparse"):
        read(sparse.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    in_pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x", "GNU.sparse.realsize": "9"}
    with pytest.raises(EvidenceError, match="sparse"):
        read(tar_of((member("x", pax_headers=in_pax), b"1\n0\n9\n".ljust(512, b"\0"))))


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(EvidenceError, match="unknown type"):
        read(member("x", b"Z").tobuf() + bytes(1024))


def test_a_broken_header_is_no_end() -> None:
    good = tar_of((member("a"), b""), (member("hidden"), b""))
    broken = good[:512] + b"x" * 512 + good[1024:]
    with pytest.raises(EvidenceError, match="a header that is none"):
        read(broken)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x28\xb5\x2f\xfd" + bytes(100), "zstd"),
        (gzip.compress(tar_of((member("a"), b"x" * 9999)), mtime=0)[:-30], "cannot be read"),
        (gzip.compress(b"text", mtime=0)[:5], "cannot be read"),
        (tar_of((member("a"), b"x" * 9999))[:2000], "cannot be read"),
        (b"no tar at all" * 100, "header that is none"),
    ],
)
def test_what_is_no_layer_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(EvidenceError, match=said):
        read(content)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_damaged_layer_is_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(tar_of((member("a/b"), b"x" * 600), (member("l", tarfile.SYMTYPE, linkname="a"), b"")))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read(bytes(content), num_bytes=1_000_000)
    except EvidenceError:
        return
    assert all(".." not in entry.path.split("/") for entry, _ in found)


def test_ornaments_of_a_path_are_taken_off() -> None:
    assert (plain_path("./usr//bin/"), plain_path("/"), plain_path("a/./b")) == ("usr/bin", "", "a/b")
