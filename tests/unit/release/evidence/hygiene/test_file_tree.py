"""Layers add up as engines unpack them: whiteouts, replaced files, links on the way, and what is wasted."""

from __future__ import annotations

from typing import Any

import pytest

from pratique.release.build.layertar import Entry
from pratique.release.errors import EvidenceError
from pratique.release.evidence.hygiene.tree import FileTree, Wasted

pytestmark = pytest.mark.unit


def entry(path: str, kind: Any = "file", *, size: int = 0, mode: int = 0o644, link: str = "") -> Entry:
    return Entry(path=path, kind=kind, mode=mode, owner=(0, 0), size=size, mtime=0, link=link)


def tree_of(*layers: list[Entry]) -> FileTree:
    tree = FileTree()
    for layer in layers:
        tree.begin_layer()
        for one in layer:
            tree.add(one)
    return tree


def paths(tree: FileTree) -> list[str]:
    return [path for path, _ in tree.live()]


def test_a_whiteout_hides_a_file_and_its_bytes_are_wasted() -> None:
    tree = tree_of([entry("a/b", size=5), entry("a/c", size=7)], [entry("a/.wh.b")])
    assert paths(tree) == ["a/c"]
    assert tree.wasted == [Wasted("a/b", 5, 1, 2)]
    assert (tree.has("a/b"), tree.has("a/c")) == (False, True)


def test_a_whiteout_of_a_folder_hides_all_below_it() -> None:
    tree = tree_of(
        [entry("a", "directory"), entry("a/b", "directory"), entry("a/b/c", size=5), entry("ab", size=1)],
        [entry(".wh.a")],
    )
    assert (paths(tree), tree.wasted_bytes) == (["ab"], 5)


def test_an_opaque_folder_hides_lower_layers_only_in_whatever_order_it_comes() -> None:
    lower = [entry("a/old", size=3), entry("a/sub/old", size=4), entry("b", size=1)]
    opaque, folders = entry("a/.wh..wh..opq"), [entry("a", "directory"), entry("a/sub", "directory")]
    files = [entry("a/new", size=9), entry("a/sub/new")]
    for upper in ([opaque, *files], [*folders, *files, opaque]):
        tree = tree_of(lower, upper)
        assert [path for path in paths(tree) if path not in {"a", "a/sub"}] == ["a/new", "a/sub/new", "b"]
        assert tree.wasted_bytes == 7


def test_a_whiteout_of_nothing_changes_nothing() -> None:
    tree = tree_of(
        [entry("a", size=1)], [entry(".wh.b"), entry("x/.wh.y"), entry("z/.wh..wh..opq"), entry("", "directory")]
    )
    assert (paths(tree), tree.wasted_bytes) == (["a"], 0)


def test_a_file_that_is_written_again_is_wasted_once() -> None:
    tree = tree_of([entry("a", size=5)], [entry("a", size=5, mode=0o755)], [entry("b")])
    assert tree.wasted == [Wasted("a", 5, 1, 2)]
    assert dict(tree.live())["a"].mode == 0o755


def test_a_folder_that_is_named_again_keeps_what_is_in_it() -> None:
    tree = tree_of([entry("a", "directory"), entry("a/b", size=5)], [entry("a", "directory", mode=0o700)])
    assert (paths(tree), tree.wasted_bytes) == (["a", "a/b"], 0)


def test_a_file_in_a_folders_place_hides_all_below_it() -> None:
    tree = tree_of([entry("a", "directory"), entry("a/b", size=5)], [entry("a", size=2)])
    assert (paths(tree), tree.wasted_bytes) == (["a"], 5)


def test_bytes_are_wasted_when_the_last_name_goes() -> None:
    tree = tree_of([entry("a", size=5), entry("b", "hardlink", link="a")], [entry(".wh.a")], [entry(".wh.b")])
    assert (paths(tree), tree.wasted) == ([], [Wasted("b", 5, 1, 3)])


def test_a_hard_link_to_itself_is_one_name() -> None:
    tree = tree_of([entry("a", size=5), entry("a", "hardlink", link="a")], [entry(".wh.a")])
    assert tree.wasted_bytes == 5


def test_a_link_on_the_way_leads_where_an_engine_would_write() -> None:
    tree = tree_of(
        [entry("usr/bin", "directory"), entry("bin", "symlink", link="usr/bin"), entry("usr/bin/su", size=3)],
        [entry("opt/x", "symlink", link="/bin/../bin/."), entry("opt/x/su", mode=0o4755, size=4)],
        [entry("bin/.wh.su")],
    )
    assert paths(tree) == ["bin", "opt/x", "usr/bin"]
    assert tree.wasted == [Wasted("usr/bin/su", 3, 1, 2), Wasted("usr/bin/su", 4, 2, 3)]


def test_a_link_that_leads_out_ends_at_the_root() -> None:
    tree = tree_of([entry("a", "symlink", link="../../../etc"), entry("a/passwd", size=1)])
    assert tree.has("etc/passwd")


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ([entry("a", "symlink", link="b"), entry("b", "symlink", link="a"), entry("a/x")], "circle of links"),
        ([entry("a", "hardlink", link="missing")], "hard link to nothing"),
        ([entry("d", "directory"), entry("a", "hardlink", link="d")], "hard link to nothing"),
    ],
)
def test_what_no_engine_could_unpack_is_refused(layer: list[Entry], said: str) -> None:
    with pytest.raises(EvidenceError, match=said):
        tree_of(layer)


@pytest.mark.parametrize(
    "layer",
    [
        [entry("bin/su", mode=0o4755), entry("bin/.wh.su")],
        [entry("bin/su", mode=0o4755), entry(".wh.bin")],
        [entry("bin/su", mode=0o4755), entry(".wh..wh..opq")],
    ],
)
def test_a_whiteout_of_what_the_same_layer_wrote_is_refused(layer: list[Entry]) -> None:
    with pytest.raises(EvidenceError, match="written itself: 'bin/su'"):
        tree_of([entry("bin", "directory")], layer)


def test_a_whiteout_before_what_takes_its_place_is_read() -> None:
    tree = tree_of([entry("a", "directory"), entry("a/b", size=5)], [entry(".wh.a"), entry("a", mode=0o4755)])
    assert [(path, inode.mode) for path, inode in tree.live()] == [("a", 0o4755)]
