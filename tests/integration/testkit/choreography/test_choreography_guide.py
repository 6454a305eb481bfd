"""Every example of the guide is run, with the fixtures that it names."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

GUIDE = Path(__file__).resolve().parents[4] / "docs" / "testkit" / "choreography.md"


def examples() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL):
        names: dict[str, Any] = {}
        exec(compile(block, str(GUIDE), "exec"), names)  # noqa: S102 - our own guide
        tests = {name: value for name, value in names.items() if name.startswith("test_")}
        assert tests, f"an example without a test:\n{block}"
        assert not tests.keys() & found.keys()
        found |= tests
    return found


EXAMPLES = examples()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_does_what_it_says(name: str, request: pytest.FixtureRequest) -> None:
    example = EXAMPLES[name]
    example(**{fixture: request.getfixturevalue(fixture) for fixture in inspect.signature(example).parameters})
