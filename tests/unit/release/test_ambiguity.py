"""Documents of images that Go's reader and ours would read as two things are refused."""

from __future__ import annotations

import json

import pytest

from pratique.release.ambiguity import ambiguity_in

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"layers": [], "layers": []}', "'layers' stands twice"),
        ('{"layers": [], "Layers": []}', "'Layers' stands twice"),
        ('{"Layers": []}', "'Layers' is 'layers' to some"),
        ('{"layer\u017f": []}', "is 'layers' to some"),
        ('{"\\u212aey": 1, "key": 2}', "stands twice"),
        ('{"config": {"User": "1000", "user": "root"}}', "'user' stands twice"),
        ('{"config": {"user": "root"}}', "'user' is 'User'"),
        ('{"rootfs": {"diff_ids": [], "Diff_Ids": []}}', "stands twice"),
        ('{"manifests": [{"digest": "a", "DIGEST": "b"}]}', "stands twice"),
        ('{"annotations": {"a": "1", "a": "2"}}', "'a' stands twice"),
        ('{"annotations": 1, "Annotations": {}}', "stands twice"),
        ("[" * 100_000, "no JSON"),
        ("\ufeff{}", "no JSON"),
        ("{", "no JSON"),
        ("\udcff", "no JSON"),
    ],
)
def test_what_readers_may_take_for_two_things_is_told(text: str, said: str) -> None:
    assert said in ambiguity_in(text.encode("utf-8", "surrogateescape"))


def test_names_that_are_anybodys_may_differ_by_case() -> None:
    labels = {"maintainer": "a", "Maintainer": "b", "user": "c", "Layers": "d"}
    document = {
        "config": {
            "User": "1000",
            "Labels": labels,
            "Volumes": {"/Data": {}, "/data": {}},
            "ExposedPorts": {"1/tcp": {}},
        },
        "annotations": labels,
        "layers": [{"annotations": labels}],
        "x-other": {"member": [1, None, "text"]},
    }
    assert ambiguity_in(json.dumps(document).encode()) == ""
