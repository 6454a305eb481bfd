"""Run by the tests as a process of its own: forks writers that tell on standard output what was acknowledged to them.

Forked rather than started anew, because a new interpreter takes longer than the whole of what is tested.
For each line on standard input, "PREFIX COUNT", a writer begins; COUNT 0 means until it is killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from pratique.core.ids import PrincipalId
from pratique.orchestrator.conversations import GenerationOptions, Outcome
from pratique.orchestrator.conversations.sqlite import SqliteConversationStore
from pratique.orchestrator.protocol.events import FinishReason

_CONCURRENCY = 8


def tell(*words: object) -> None:
    # One write per line: lines of several writers do not mix, and none waits in a buffer when the writer is killed.
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def write(path: Path, prefix: str, count: int) -> None:
    store = await SqliteConversationStore.open(path)
    numbers = iter(range(count or 10**9))

    async def client() -> None:
        for number in numbers:
            message = f"{prefix}-{number:06}"
            begun = await store.begin_turn(
                owner=PrincipalId("usr_ann"),
                conversation_id=None,
                client_message_id=message,
                text=message,
                options=GenerationOptions(),
            )
            tell("begun", message, begun.conversation_id, begun.generation_id, int(begun.duplicate))
            ended = await store.finish(
                begun.generation_id,
                epoch=1,
                outcome=Outcome(text=f"{message} by {os.getpid()}", finish_reason=FinishReason.STOP),
            )
            tell("ended", message, begun.generation_id, ended.turn_id, int(ended.already))

    await asyncio.gather(*(client() for _ in range(_CONCURRENCY)))
    await store.aclose()


def main() -> None:
    """Fork a writer for each line; say when it has ended."""
    path = Path(sys.argv[1])
    children = 0
    for line in sys.stdin:
        prefix, count = line.split()
        pid = os.fork()
        if pid == 0:
            asyncio.run(write(path, prefix, int(count)))
            os._exit(0)
        children += 1
        tell("writer", pid)
        if count == "0":
            os.waitpid(pid, 0)
            tell("gone", pid)
            children -= 1
    for _ in range(children):
        os.wait()


if __name__ == "__main__":
    main()
