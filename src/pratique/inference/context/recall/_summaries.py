"""Summaries that are there and those that are to be made, both bounded. Pure; safe to use from several threads.

A summary is known by the digest of the turns that it covers: a prefix of what was left out of a prompt. Every later
prompt of the conversation leaves out the same turns and more, so the longest prefix with a summary is the newest one.
The digests are chained, each over the one before and one message, and cost one pass over the turns.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pratique.inference.engines.interface import ChatMessage

__all__ = ["Job", "Summaries"]

_DIGEST_BYTES: Final = 16


@dataclass(frozen=True, kw_only=True)
class Job:
    """A summary that is asked for: the one before it, and the turns since."""

    previous: str
    """Covers everything before `messages`; "" where nothing is before."""
    messages: tuple[ChatMessage, ...]
    digests: tuple[bytes, ...]
    """For each of the messages, that of everything up to it."""


class Summaries:
    """The newest summaries, and the newest jobs; the oldest go first."""

    def __init__(self, *, max_summaries: int, max_jobs: int, max_job_characters: int) -> None:
        self._max_summaries = max_summaries
        self._max_jobs = max_jobs
        self._max_job_characters = max_job_characters
        self._texts: OrderedDict[bytes, str] = OrderedDict()
        self._jobs: OrderedDict[bytes, Job] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def num_jobs(self) -> int:
        return len(self._jobs)

    def find(self, dropped: Sequence[ChatMessage]) -> tuple[str, Job | None]:
        """Return the summary that covers most of the turns from the oldest on, and the job for the rest of them.

        "" where there is none yet; no job where nothing is left.
        """
        digests = _digests(dropped)
        with self._lock:
            covered, text = self._num_covered(digests), ""
            if covered:
                text = self._texts[digests[covered - 1]]
                self._texts.move_to_end(digests[covered - 1])
        if covered == len(dropped):
            return text, None
        end = self._end_of_job(dropped, covered)
        return text, Job(previous=text, messages=tuple(dropped[covered:end]), digests=tuple(digests[covered:end]))

    def _end_of_job(self, dropped: Sequence[ChatMessage], start: int) -> int:
        """Of a long history one job takes the oldest part, at least one message: the next goes on from there."""
        characters, end = len(dropped[start].content), start + 1
        while end < len(dropped) and characters + len(dropped[end].content) <= self._max_job_characters:
            characters += len(dropped[end].content)
            end += 1
        return end

    def ask(self, job: Job) -> tuple[int, int]:
        """Put a job at the end of the queue. Return how many it supersedes, and how many it crowds out.

        A job for fewer turns of the same conversation is superseded: its turns are in this one.
        """
        with self._lock:
            same = self._jobs.pop(job.digests[-1], None)
            older = [digest for digest in job.digests[:-1] if digest in self._jobs]
            for digest in older:
                del self._jobs[digest]
            self._jobs[job.digests[-1]] = same or job
            num_over = max(len(self._jobs) - self._max_jobs, 0)
            for _ in range(num_over):
                self._jobs.popitem(last=False)
        return len(older), num_over

    def take(self) -> Job | None:
        """Return the job that waits longest, and take it off the queue; only what no summary covers by now."""
        with self._lock:
            while self._jobs:
                _, job = self._jobs.popitem(last=False)
                covered = self._num_covered(job.digests)
                if covered < len(job.digests):
                    return job if not covered else self._rest(job, covered)
            return None

    def _num_covered(self, digests: Sequence[bytes]) -> int:
        return next((n for n in range(len(digests), 0, -1) if digests[n - 1] in self._texts), 0)

    def _rest(self, job: Job, covered: int) -> Job:
        previous = self._texts[job.digests[covered - 1]]
        return Job(previous=previous, messages=job.messages[covered:], digests=job.digests[covered:])

    def keep(self, digest: bytes, text: str) -> None:
        """Remember a summary."""
        with self._lock:
            self._texts[digest] = text
            self._texts.move_to_end(digest)
            while len(self._texts) > self._max_summaries:
                self._texts.popitem(last=False)


def _digests(messages: Sequence[ChatMessage]) -> list[bytes]:
    digests, last = [], b""
    for message in messages:
        # Lengths before the fields: no two different messages are the same bytes.
        fields = (message.role, message.content, message.extra)
        data = b"".join(
            len(raw).to_bytes(8, "big") + raw for raw in (field.encode("utf-8", "surrogatepass") for field in fields)
        )
        last = hashlib.blake2b(last + data, digest_size=_DIGEST_BYTES).digest()
        digests.append(last)
    return digests
