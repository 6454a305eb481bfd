"""Headers of a layer are read as the engines that unpack it read them, or not at all.

Engines are written in Go and use its `archive/tar`. Where another reader may take a header for something else, somebody
can show one image to those who look and another to those who run: such a layer is refused.
"""

from __future__ import annotations

import io
import tarfile
from typing import Literal

import pytest

from pratique.release.build.layertar import LayerLimits, read_entries
from pratique.release.errors import EvidenceError

pytestmark = pytest.mark.unit

END = bytes(1024)


def header(
    name: str, *, kind: bytes = b"0", size: int = 0, form: Literal[0, 1] = tarfile.USTAR_FORMAT, mode: int = 0o644
) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, size, mode
    return info.tobuf(form)


def changed(block: bytes, at: int, value: bytes) -> bytes:
    """Write a field, and the sum of the whole."""
    content = bytearray(block)
    content[at : at + len(value)] = value
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content)
    return bytes(content)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def pax(*records: tuple[str, str], kind: bytes = b"x") -> bytes:
    content = b""
    for key, value in records:
        body = f" {key}={value}\n".encode()
        size = len(body) + 1
        while size != len(str(size)) + len(body):
            size = len(str(size)) + len(body)
        content += str(size).encode() + body
    return header("pax", kind=kind, size=len(content)) + padded(content)


def long_name(name: str) -> bytes:
    content = name.encode() + b"\0"
    return header("././@LongLink", kind=b"L", size=len(content), form=tarfile.GNU_FORMAT) + padded(content)


def read(content: bytes) -> list[str]:
    return [entry.path for entry in read_entries(io.BytesIO(content), LayerLimits())]


SU = header("usr/bin/su", mode=0o4755)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        # Python takes what begins with a zero byte for 0, Go reads on: a set-uid bit or a size that nobody sees.
        (changed(SU, 100, b"\0" + b"004755"), "number"),
        (changed(header("a", size=512), 124, b"\0" + b"0000001000") + SU, "number"),
        (changed(SU, 108, b"0x10\0"), "number"),
        (changed(SU, 124, b"00000001_00"), "number"),
        (changed(SU, 124, b"-0000000001"), "number"),
        (changed(SU, 124, b"\xff" * 12), "negative size"),
        # A prefix belongs to the name in one form of header only.
        (changed(changed(SU, 257, bytes(8)), 345, b"usr/share/doc"), "prefix"),
        (changed(header("a", form=tarfile.GNU_FORMAT), 345, b"usr/share/doc"), "prefix"),
        (changed(SU, 508, b"tar\0"), "prefix"),
        # What a global header says Go leaves out, and others take for all that follows.
        (pax(("path", "usr/share/doc/x"), kind=b"g") + SU, "global header"),
        (pax(("size", "0"), kind=b"g") + SU, "global header"),
        # Of two that name one entry readers take either.
        (pax(("path", "a")) + pax(("path", "b")) + SU, "two headers"),
        (pax(("path", "a")) + long_name("b") + SU, "two headers"),
        (long_name("a") + pax(("path", "b")) + SU, "two headers"),
        (long_name("a") + long_name("b") + SU, "two headers"),
        (pax(("path", "a")) + pax(("comment", "c"), kind=b"g") + SU, "two headers"),
        (pax(("path", "a"), kind=b"X") + SU, "unknown type"),
        # Go leaves an empty path out, and takes the header's.
        (pax(("path", "")) + SU, "empty"),
        (pax(("linkpath", "")) + header("l", kind=b"2"), "empty"),
        (pax(("size", "1_0")) + SU, "number"),
        (pax(("size", " 1")) + SU, "number"),
        (pax(("uid", "0x1")) + SU, "number"),
        (pax(("mtime", "nan")) + SU, "number"),
        (header("pax", kind=b"x", size=6) + padded(b"9 a=b\n") + SU, "record"),
        (header("pax", kind=b"x", size=6) + padded(b"06 ab\n") + SU, "record"),
        (pax(("path", "a")), "nothing"),
        (header("", mode=0o4755), "root"),
        (SU + bytes(512) + header("hidden"), "behind the end"),
    ],
)
def test_a_header_that_two_readers_read_differently_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(EvidenceError, match=said):
        read(content + END)


@pytest.mark.parametrize(
    ("content", "paths"),
    [
        (pax(("path", "usr/" + "x" * 300)) + SU, ["usr/" + "x" * 300]),
        (long_name("usr/" + "x" * 300) + header("short", form=tarfile.GNU_FORMAT), ["usr/" + "x" * 300]),
        (pax(("comment", "4b825dc642cb6eb9a060e54bf8d69288fbee4904"), kind=b"g") + SU, ["usr/bin/su"]),
        (changed(SU, 345, b"opt"), ["opt/usr/bin/su"]),
        (changed(SU, 257, bytes(8)), ["usr/bin/su"]),
        (changed(header("d/"), 156, b"\0"), ["d"]),
        (changed(SU, 124, b"\x80" + bytes(11)), ["usr/bin/su"]),
        (changed(SU, 124, b"         0 \0"), ["usr/bin/su"]),
        (changed(header("h", kind=b"1", size=512), 157, b"a"), ["h"]),
        (header("d", kind=b"5", size=512) + SU, ["d", "usr/bin/su"]),
        # Behind its own size a header holds nothing.
        (header("pax", kind=b"x", size=9) + padded(b"9 a=bcde\n21 path=usr/share/x\n") + SU, ["usr/bin/su"]),
        (pax(("mtime", "1.5")) + SU, ["usr/bin/su"]),
        (pax(("size", "3")) + header("a") + padded(b"abc") + SU, ["a", "usr/bin/su"]),
    ],
)
def test_what_engines_write_and_read_alike_is_read(content: bytes, paths: list[str]) -> None:
    assert read(content + END) == paths
    assert read(content + bytes(512)) == paths
    assert read(content) == paths


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (SU[:100], "ends within a header"),
        (header("a", size=600) + b"x" * 512, "ends within an entry"),
        (header("pax", kind=b"x", size=600) + b"x" * 512, "ends within an entry"),
    ],
)
def test_what_ends_too_early_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(EvidenceError, match=said):
        read(content)


def test_a_stream_that_gives_less_than_was_asked_for_is_read_on() -> None:
    class Slowly(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size, 100) if size is not None and size > 0 else size)

    content = header("a", size=600) + padded(b"x" * 600) + SU + END
    found = [
        (entry.path, entry.content.read(-1) if entry.content else b"")
        for entry in read_entries(Slowly(content), LayerLimits())
    ]
    assert found == [("a", b"x" * 600), ("usr/bin/su", b"")]


def test_a_signed_sum_as_old_programs_wrote_it_holds() -> None:
    block = bytearray(changed(header("a"), 0, b"\xc3\xa9"))
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(one - 256 if one > 127 else one for one in block)
    assert read(bytes(block) + END) == ["é"]


@pytest.mark.parametrize("name", [".wh.", "a/.wh.", "a/.wh..", "a/.wh..."])
def test_a_whiteout_of_a_folder_by_its_own_name_is_refused(name: str) -> None:
    with pytest.raises(EvidenceError, match="whiteout"):
        read(header(name) + END)
