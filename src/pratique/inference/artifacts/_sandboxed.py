"""The entry of the sandboxed process: give everything up, say what is enforced, then convert.

It writes one JSON object a line to standard output: first what of the sandbox is enforced, then progress, at last what
was found. Nothing of the source is read before.
"""

from __future__ import annotations

import sys

import msgspec

from pratique.inference.artifacts._confine import confine
from pratique.inference.artifacts._protocol import NOT_SANDBOXED, Said, Task, say
from pratique.inference.errors import ArtifactError, UnsafeWeightsError

__all__ = ["main"]


def main(raw: str) -> int:
    """Do the task `raw` (JSON); return the exit code."""
    task = msgspec.json.decode(raw, type=Task)
    enforced = confine(task.bounds, task.parent)
    say(Said(sandbox=enforced))
    if any(enforced[measure] for measure in task.must_have):
        return NOT_SANDBOXED
    try:
        _convert(task)
    except UnsafeWeightsError as error:
        say(Said(unsafe=error.message))
        return 1
    except ArtifactError as error:
        say(Said(failed=error.message))
        return 1
    return 0


def _convert(task: Task) -> None:
    if task.kind == "gguf":
        from pratique.inference.artifacts._convert import convert_gguf

        convert_gguf(task)
    else:
        from pratique.inference.artifacts._unpickle import convert_pickles

        convert_pickles(task)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
