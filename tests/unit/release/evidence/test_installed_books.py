"""An image's own books of packages are read through all layers, and a bill of materials is held against them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from tests.unit.release.evidence.images_made import DPKG, bom, deb, layer, make_image, metadata, pypi

from pratique.release.build.layertar import LayerLimits, read_entries
from pratique.release.build.layout import read_layout
from pratique.release.components import read_components
from pratique.release.errors import EvidenceError
from pratique.release.evidence import installed
from pratique.release.evidence.installed import Installed, Overlay, installed_in, missing_from, packages_of

pytestmark = pytest.mark.unit

SITE = "usr/lib/python3/dist-packages"
STATUS = "var/lib/dpkg/status"


def books(*layers: bytes) -> list[str]:
    overlay = Overlay(installed._is_book)
    for one in layers:
        overlay.add_layer(read_entries(io.BytesIO(one), LayerLimits()))
    return sorted(overlay.files)


def test_what_a_later_layer_deletes_replaces_or_hides_is_gone() -> None:
    base = layer((f"{SITE}/a-1.dist-info/METADATA", ""), (f"{SITE}/b-1.dist-info/METADATA", ""), (STATUS, ""))
    assert books(base, layer((f"{SITE}/.wh.a-1.dist-info", ""))) == [f"{SITE}/b-1.dist-info/METADATA", STATUS]
    assert books(base, layer((f"{SITE}/a-1.dist-info/.wh.METADATA", "")))[0] == f"{SITE}/b-1.dist-info/METADATA"
    assert books(base, layer((SITE, "a file now"))) == [STATUS]
    assert books(base, layer((f"{SITE}/.wh..wh..opq", ""))) == [STATUS]
    assert books(base, layer((".wh..wh..opq", ""))) == []
    assert len(books(base, layer((SITE, None)))) == 3


def test_a_whiteout_removes_nothing_of_its_own_layer() -> None:
    new = layer((f"{SITE}/a-2.dist-info/METADATA", ""), (f"{SITE}/.wh..wh..opq", ""))
    assert books(layer((f"{SITE}/a-1.dist-info/METADATA", "")), new) == [f"{SITE}/a-2.dist-info/METADATA"]


def test_the_last_of_two_entries_of_one_layer_counts(tmp_path: Path) -> None:
    image = make_image(
        tmp_path, layer(("x.dist-info/METADATA", metadata("x", "1")), ("x.dist-info/METADATA", metadata("x", "2")))
    )
    assert packages_of(read_layout(image.layout)) == {Installed("pypi", "x", "2")}


def test_packages_are_those_that_are_installed(tmp_path: Path) -> None:
    image = make_image(
        tmp_path,
        layer((STATUS, DPKG), ("var/lib/dpkg/status.d/base", "Package: base-files\nVersion: 12\n")),
        layer(
            (f"{SITE}/Left_Pad-1.dist-info/METADATA", metadata("Left_Pad", "1.0")),
            (f"{SITE}/old.egg-info/PKG-INFO", metadata("old", "2")),
            (f"{SITE}/old.egg-info/SOURCES.txt", "no book"),
            ("var/lib/dpkg/status.d/base.md5sums", "no book either"),
        ),
    )
    assert sorted(map(str, packages_of(read_layout(image.layout)))) == [
        "pkg:deb/base-files@12",
        "pkg:deb/openssl@3.0.11-1~deb12u2",
        "pkg:deb/zlib1g@1:1.2.13.dfsg-1",
        "pkg:pypi/left-pad@1.0",
        "pkg:pypi/old@2",
    ]


@pytest.mark.parametrize(
    ("path", "text", "why"),
    [
        ("a.dist-info/METADATA", "Name: a\n", "no Name or no Version"),
        ("a.dist-info/METADATA", "", "no Name or no Version"),
        (STATUS, "Package: a\nStatus: install ok installed\n", "without Package or Version"),
        (STATUS, "Version: 1\nStatus: install ok installed\n", "without Package or Version"),
    ],
)
def test_a_book_that_does_not_say_what_it_is_about_is_refused(path: str, text: str, why: str) -> None:
    with pytest.raises(EvidenceError, match=why):
        installed_in({path: text.encode()})


def test_an_empty_status_names_nothing() -> None:
    assert installed_in({STATUS: b"\n\n  \n\n"}) == frozenset()


def test_books_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "MAX_BOOK_BYTES", 3)
    with pytest.raises(EvidenceError, match="at most 3 are read"):
        books(layer((STATUS, "four")))
    monkeypatch.setattr(installed, "_MAX_BOOKS", 0)
    with pytest.raises(EvidenceError, match="more than 0 records"):
        books(layer((STATUS, "")))


def test_packages_that_a_bill_of_materials_leaves_out_are_named() -> None:
    components = read_components(json.dumps(bom(pypi("Left-Pad", "1.0"), deb("openssl", "3.0-1%2Bb1"))).encode())
    there = [Installed("pypi", "left-pad", "1.0"), Installed("deb", "openssl", "3.0-1+b1")]
    missing = [Installed("pypi", "left-pad", "1.1"), Installed("deb", "left-pad", "1.0")]
    assert missing_from(components, there) == ()
    assert missing_from(components, [*there, *missing]) == tuple(sorted(missing))


def test_a_book_that_is_a_hard_link_is_read(tmp_path: Path) -> None:
    # As uv installs from its cache.
    path = f"{SITE}/a-1.dist-info/METADATA"
    linked = layer(("cache/1", metadata("a", "1")), (path, "=> cache/1"), ("other", "=> cache/1"))
    image = make_image(tmp_path / "one", linked)
    assert packages_of(read_layout(image.layout)) == {Installed("pypi", "a", "1")}
    image = make_image(tmp_path / "two", layer(("cache/1", metadata("a", "1"))), layer((path, "=> cache/1")))
    with pytest.raises(EvidenceError, match="which is not in its layer"):
        packages_of(read_layout(image.layout))
