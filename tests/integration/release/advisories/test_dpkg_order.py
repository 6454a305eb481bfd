"""Debian's versions compare as dpkg itself says, and are versions where dpkg says so."""

from __future__ import annotations

import random
import shutil
import subprocess

import pytest

from pratique.release.advisories.versions import DEBIAN

pytestmark = [pytest.mark.integration, pytest.mark.skipif(shutil.which("dpkg") is None, reason="dpkg is not installed")]

_CHARACTERS = "0123456789.+~-:abzZ0129.~-"


def made_up(dice: random.Random) -> tuple[str, str]:
    """Two versions that often have much in common: that is where orders differ."""

    def text(most: int) -> str:
        return "".join(dice.choice(_CHARACTERS) for _ in range(dice.randrange(most)))

    one = dice.choice("0129") + text(7)
    return one, dice.choice([one[: dice.randrange(1, len(one) + 1)] + text(3), dice.choice("0129") + text(7)])


def dpkg(*arguments: str) -> bool:
    return subprocess.run(["dpkg", *arguments], capture_output=True, timeout=10, check=False).returncode == 0


@pytest.mark.parametrize("seed", range(4))
def test_made_up_versions_compare_as_dpkg_compares_them(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - made-up data
    for _ in range(60):
        one, other = made_up(dice)
        first, second = DEBIAN.key(one), DEBIAN.key(other)
        if first is None or second is None:
            for version, key in ((one, first), (other, second)):
                assert dpkg("--validate-version", version) == (key is not None), version
            continue
        relation = "lt" if first < second else "gt" if first > second else "eq"
        assert dpkg("--compare-versions", one, relation, other), f"{one} {relation} {other}"
