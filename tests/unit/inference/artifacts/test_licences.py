"""Which licence a model's files state. Nothing is guessed."""

from __future__ import annotations

import pytest

from pratique.inference.artifacts.licences import NOT_STATED, find_licence, normalise_licence

pytestmark = pytest.mark.unit


def card(front: str) -> dict[str, str]:
    return {"README.md": f"---\n{front}\n---\n# Model\nlicense: gpl-3.0\n"}


@pytest.mark.parametrize(
    ("texts", "licence"),
    [
        ({}, NOT_STATED),
        ({"README.md": "# No front matter\nlicense: mit\n"}, NOT_STATED),
        ({"README.md": "---\nlicense: mit\n"}, NOT_STATED),
        (card("language: ja\nlicense: apache-2.0"), "Apache-2.0"),
        (card("license: MIT  # as of 2024"), "MIT"),
        (card("license: 'cc-by-sa-4.0'"), "CC-BY-SA-4.0"),
        (card("license:\n- apache-2.0\n- mit"), "Apache-2.0"),
        (card("license: [mit]"), "MIT"),
        (card("license: llama3.2"), "llama3.2"),
        (card("license: other\nlicense_name: 日本-licence\nlicense_link: x"), "日本-licence"),
        (card("license: other"), "other"),
        (card("base_license: mit"), NOT_STATED),
        (card("language: en") | {"LICENSE": "MIT License\n\nCopyright"}, "MIT"),
        ({"LICENSE.txt": "   Apache License\n   Version 2.0, January 2004"}, "Apache-2.0"),
        ({"LICENCE": "GNU GENERAL PUBLIC LICENSE\n Version 3, 29 June 2007"}, "GPL-3.0"),
        ({"COPYING": "GNU AFFERO GENERAL PUBLIC LICENSE\n Version 3"}, "AGPL-3.0"),
        ({"LICENSE": "Mozilla Public License Version 2.0"}, "MPL-2.0"),
        ({"LICENSE": "Our own terms"}, "see LICENSE"),
        ({"LICENSE": "   "}, NOT_STATED),
    ],
)
def test_the_statement_is_found(texts: dict[str, str], licence: str) -> None:
    assert find_licence(texts) == licence


@pytest.mark.parametrize(
    ("stated", "licence"),
    [(" APACHE-2.0 ", "Apache-2.0"), ("a\n b", "a b"), ("\x1b[2Jx", "[2Jx"), ("", NOT_STATED), ("x" * 900, "x" * 200)],
)
def test_a_statement_is_one_plain_line(stated: str, licence: str) -> None:
    assert normalise_licence(stated) == licence
