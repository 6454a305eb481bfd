"""Searches with regular expressions of others, for a bounded time.

Python's search cannot be interrupted, and takes years for some short patterns. So it is done by a child process, which
is ended when its time is over.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from pratique.release.evaluation.errors import IncompleteEvaluationError

__all__ = ["search_all"]

_PROGRAM: Final = """
import json, re, sys
patterns, text = json.load(sys.stdin)
json.dump([re.search(pattern, text) is not None for pattern in patterns], sys.stdout)
"""


def search_all(patterns: Sequence[str], text: str, *, seconds: float) -> tuple[bool, ...]:
    """Say for each pattern whether it is found in the text.

    Raises:
        IncompleteEvaluationError: they were not done in time, or could not be searched for.
    """
    if not patterns:
        return ()
    try:
        done = subprocess.run(  # noqa: S603 - our own program; patterns and text go in as data
            [sys.executable, "-I", "-S", "-W", "ignore", "-c", _PROGRAM],
            input=json.dumps([list(patterns), text]).encode(),
            capture_output=True,
            timeout=seconds,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise IncompleteEvaluationError(
            f"the regular expressions {list(patterns)} were not done with an answer of {len(text)} characters"
            f" in {seconds:g} s",
            hint="Write one without repetitions inside repetitions; or see regex_seconds in [release.evaluation].",
        ) from error
    except (OSError, subprocess.CalledProcessError) as error:
        raise IncompleteEvaluationError(f"regular expressions could not be searched for: {error}") from error
    return tuple(json.loads(done.stdout))
